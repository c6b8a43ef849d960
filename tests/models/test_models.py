"""The models: their sizes summed by hand, their shapes, that every parameter learns, and that masks reach all of it."""

import copy
import importlib
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from prunelab.models.conv import Conv
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.lenet5_caffe import LeNet5Caffe
from prunelab.models.lstm import LSTM
from prunelab.models.mlp import MLP
from prunelab.models.residual_lenet import ResidualLeNet
from prunelab.models.torchvision_models import torchvision_model
from prunelab.models.vit import ViT
from prunelab.pruning.masks import Masks
from prunelab.pruning.prunable import select

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
CHOICES = [file.stem for file in FILES if file.stem not in ("lenet", "lenet_300_100")]  # these are for MNIST alone


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def weights(model):
    """Those of Conv and Linear layers, without biases: what Frankle & Carbin count."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))


def build(choice, shape, classes=10):
    """As the config has it."""
    torch.manual_seed(0)
    options = yaml.safe_load((FILES[0].parent / f"{choice}.yaml").read_text())
    module, _, name = options.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), name)(**options, shape=shape, classes=classes)


# Sizes, summed by hand


def test_lenet5_caffe():
    conv1, conv2 = 20 * (25 + 1), 50 * (20 * 25 + 1)
    fc1, fc2 = 500 * (50 * 4 * 4 + 1), 10 * (500 + 1)
    assert parameters(LeNet5Caffe()) == conv1 + conv2 + fc1 + fc2 == 431_080
    assert LeNet5Caffe(shape=COLOUR).fc1.in_features == 50 * 5 * 5  # 32 → 28 → 14 → 10 → 5


@pytest.mark.parametrize(
    ("pairs", "convs", "flat"),
    [
        (1, 27 * 64 + 576 * 64, 64 * 16 * 16),
        (2, 27 * 64 + 576 * 64 + 576 * 128 + 1152 * 128, 128 * 8 * 8),
        (3, 27 * 64 + 576 * 64 + 576 * 128 + 1152 * 128 + 1152 * 256 + 2304 * 256, 256 * 4 * 4),
    ],
)
def test_conv_2_4_6(pairs, convs, flat):
    """The totals are those of the paper's figure 2, but for Conv-6, whose layers do not add up to its 1.7 million."""
    expected = convs + flat * 256 + 256 * 256 + 256 * 10
    assert weights(Conv(pairs, shape=COLOUR)) == expected
    assert f"{expected / 1e6:.1f}" == {1: "4.3", 2: "2.4", 3: "2.3"}[pairs]


def test_conv_is_glorot_normal():
    """Deviation √(2 / (fan in + fan out)), biases 0."""
    torch.manual_seed(0)
    model = Conv(3, shape=COLOUR)
    for layer, fans in ((model.convs[5], 256 * 9 + 256 * 9), (model.fc1, 4096 + 256), (model.fc2, 512)):
        assert layer.weight.std().item() == pytest.approx((2 / fans) ** 0.5, rel=0.02)
        assert abs(layer.weight.mean().item()) < layer.weight.std().item() / 50
        assert layer.weight.abs().max() > 3.5 * layer.weight.std()  # a uniform distribution ends at 1.7
        assert not layer.bias.any()


def test_lstm():
    gates = 4 * 128 * (28 + 128 + 2)  # two biases
    assert parameters(LSTM()) == gates + 10 * 129
    assert parameters(LSTM(layers=2)) == gates + 4 * 128 * (128 + 128 + 2) + 10 * 129
    assert LSTM(shape=COLOUR).lstm.input_size == 96
    assert parameters(LSTM(embedding=128)) == 128 * 29 + 4 * 128 * (128 + 128 + 2) + 10 * 129


def test_lstm_reads_rows_from_top_to_bottom():
    torch.manual_seed(0)
    model = LSTM(hidden=3, shape=(2, 4, 5))
    x = torch.rand(1, 2, 4, 5)
    state = None
    for row in range(4):
        _, state = model.lstm(torch.cat([x[:, 0, row], x[:, 1, row]], 1).unsqueeze(1), state)
    torch.testing.assert_close(model(x), model.fc(state[0][-1]))


def test_vit_tiny():
    block = 2 * 128 + (192 * 64 + 192) + (64 * 64 + 64) + (128 * 64 + 128) + (64 * 128 + 64)
    expected = (16 * 64 + 64) + 64 + 50 * 64 + 4 * block + 128 + 650
    assert parameters(ViT()) == expected
    assert ViT(shape=COLOUR).position.shape == (1, 1 + 64, 64)


def test_vit_sees_every_patch_and_where_it_is():
    torch.manual_seed(0)
    model = ViT(patch=2, depth=1, shape=(1, 4, 4)).eval()
    x = torch.rand(1, 1, 4, 4, requires_grad=True)
    model(x).square().sum().backward()
    assert (x.grad != 0).all()
    swapped = torch.cat([x[..., 2:], x[..., :2]], -1)  # the same patches in other places
    assert (model(swapped) - model(x)).abs().max() > 1e-4


def test_deep_mlp():
    assert parameters(DeepMLP()) == 100 * 785 + 8 * 100 * 101 + 10 * 101
    assert [type(block).__name__ for block in DeepMLP(depth=3).blocks] == ["Block"] * 3


def test_mlp():
    assert parameters(MLP()) == 40 * 785 + 20 * 41 + 10 * 21
    assert weights(MLP((300, 100))) == 266_200  # LeNet-300-100
    assert [type(layer).__name__ for layer in MLP(())] == ["Flatten", "Linear"]
    with pytest.raises(ValueError, match=r"hidden=\[40, 0\]: must be whole numbers ≥ 1"):
        MLP([40, 0])


def test_residual_lenet():
    norm, conv = 2 * 16, 16 * 16 * 9
    assert parameters(ResidualLeNet()) == 16 * 9 + norm + 3 * 2 * (conv + norm) + 10 * (16 * 7 * 7 + 1)


@pytest.mark.parametrize("model", [DeepMLP(), ResidualLeNet()])
def test_a_residual_block_of_zeros_passes_its_input_on(model):
    """Which is why a whole block can be pruned."""
    block = copy.deepcopy(model.blocks[0]).eval()
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(2, 100) if isinstance(model, DeepMLP) else torch.rand(2, 16, 5, 5)  # ≥ 0, as after a ReLU
    assert torch.equal(block(x), x)


# What holds for all of them


@pytest.mark.parametrize("shape", [GREY, COLOUR])
@pytest.mark.parametrize("choice", CHOICES)
def test_shapes_gradients_and_masks(choice, shape):
    """Every parameter trains, and a model under masks computes what a plain model with zeros does."""
    model = build(choice, shape, 7)
    twin = build(choice, shape, 7)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    x = torch.rand(2, *shape)
    copied = copy.deepcopy(model).eval()
    assert copied(x).shape == (2, 7)
    assert torch.equal(copied(x), model.eval()(x))

    masks = Masks(model)
    masks.add(select(model))
    for item in masks:
        item.mask.view(-1)[::2] = 0
    masks.apply()
    model.train()
    for _ in range(2):
        nn.functional.cross_entropy(model(x), torch.tensor([3, 5])).backward()
    still = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not still
    assert all(not item.parameter.grad[item.mask == 0].any() for item in masks)

    model.eval()
    with torch.no_grad():
        for item in masks:
            item.parameter.mul_(0.5)
        twin.load_state_dict(model.state_dict())
        assert torch.equal(model(x), twin.eval()(x))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: ViT(patch=5), "patch=5"),
        (lambda: ViT(patch=0), "patch=0"),
        (lambda: ViT(patch=7, shape=COLOUR), "patch=7"),
        (lambda: ViT(heads=3), "heads=3"),
        (lambda: ViT(depth=0), "depth=0"),
        (lambda: ViT(mlp_ratio=0.001), "mlp_ratio=0.001"),
        (lambda: LSTM(hidden=0), "hidden=0"),
        (lambda: LSTM(layers=0), "layers=0"),
        (lambda: Conv(4), "pairs=4"),
        (lambda: Conv(3, shape=(1, 7, 28)), r"shape=\[1, 7, 28\]"),
        (lambda: LeNet5Caffe(shape=(1, 15, 28)), r"shape=\[1, 15, 28\]"),
        (lambda: DeepMLP(width=0), "width=0"),
        (lambda: DeepMLP(depth=-1), "depth=-1"),
        (lambda: ResidualLeNet(width=0), "width=0"),
        (lambda: ResidualLeNet(depth=-1), "depth=-1"),
        (lambda: ResidualLeNet(shape=(1, 3, 3)), r"shape=\[1, 3, 3\]"),
        (lambda: torchvision_model("resnet18", shape=(2, 28, 28)), r"shape=\[2, 28, 28\]"),
        (lambda: torchvision_model("resnet81"), "name=resnet81.*resnet18"),
        (lambda: torchvision_model("vit_b_16"), r"name=vit_b_16.*shape=\[1, 28, 28\]"),  # patches of 16
        (lambda: torchvision_model("deeplabv3_resnet50"), "name=deeplabv3_resnet50"),  # no classifier
    ],
)
def test_wrong_values_are_quoted(make, key):
    with pytest.raises(ValueError, match=key):
        make()


@pytest.mark.parametrize(
    ("model", "smallest"), [(LeNet5Caffe, 16), (lambda **how: Conv(3, **how), 8), (ResidualLeNet, 4)]
)
def test_the_smallest_image(model, smallest):
    assert model(shape=(1, smallest, smallest)).eval()(torch.rand(1, 1, smallest, smallest)).shape == (1, 10)
