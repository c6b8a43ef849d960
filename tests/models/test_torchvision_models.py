"""The models of torchvision: their own names and outputs, and that torchvision is imported only for them."""

import copy
import subprocess
import sys

import torch

from prunelab.models.torchvision_models import torchvision_model

COLOUR = (3, 32, 32)


def test_a_torchvision_model_has_torchvisions_own_names_and_output():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    expected = resnet18(weights=None, num_classes=10).eval()
    torch.manual_seed(0)
    model = torchvision_model().eval()
    assert list(model.state_dict()) == list(expected.state_dict())
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(model(x), expected(x.expand(-1, 3, -1, -1)))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_torchvisions_vision_transformers_take_the_images_size():
    assert torchvision_model("vit_b_32", shape=COLOUR).eval()(torch.rand(1, *COLOUR)).shape == (1, 10)


def test_models_with_auxiliary_classifiers_give_plain_logits():
    model = torchvision_model("googlenet", shape=COLOUR).train()
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 10)


def test_torchvision_is_not_imported_for_other_models():
    code = (
        "import sys, prunelab.models.torchvision_models, prunelab.models.vit; assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
