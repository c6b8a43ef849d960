"""train.precision: what is computed in bfloat16, what TF32 sets, and that training never waits for the device."""

import pytest
import torch
import torch.nn.functional as F
from conftest import numbers, overrides
from torch import nn
from training_runs import CLASSES, FEATURES, adam, bits, network, never_waiting, split, trained, without_seconds

import prunelab
from prunelab.errors import ConfigError
from prunelab.runtime import device
from prunelab.runtime.process_state import unchanged
from prunelab.training.forward import forward
from prunelab.training.loop import evaluate, train_step


def test_bf16_multiplies_in_bfloat16_and_returns_float32():
    layer, (inputs, _) = nn.Linear(FEATURES, CLASSES), split(5).batch(slice(None))
    expected = F.linear(*(x.bfloat16() for x in (inputs, layer.weight, layer.bias)))
    found = forward(layer, inputs, "bf16")
    assert found.dtype == torch.float32
    assert torch.equal(found, expected.float())
    assert torch.equal(forward(layer, inputs), layer(inputs))
    assert not torch.equal(found, layer(inputs))


def test_training_and_its_validation_have_the_same_precision():
    ends = {}
    for precision in (None, "bf16"):
        model = network()
        records = trained(model, adam(model), precision=precision)
        ends[precision] = bits(model)
        assert records[-1].val_loss == evaluate(model, split(20, 1), precision=precision).loss
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert ends[None] != ends["bf16"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lenet", "residual_lenet", "lstm", "vit_tiny"])
def test_whole_runs_in_bf16(model, tmp_path):
    """The end of the run proves that the saved network has the reported accuracy, so in the same precision."""
    few = [*overrides(tmp_path, f"model={model}", "compact=true"), "finetune.epochs=5it", "train.epochs=5it"]
    keys = ("train.precision=bf16", "train.precision=fp32")
    found = {key: prunelab.run(*few, key, quiet=True) for key in keys}
    assert [result.problems for result in found.values()] == [[], []]
    one, other = (numbers(result.folder) for result in found.values())
    assert [row["train_loss"] for row in one] != [row["train_loss"] for row in other]
    assert float(one[-1]["train_loss"]) == pytest.approx(float(other[-1]["train_loss"]), rel=0.2)


def test_tf32_needs_a_gpu():
    with (
        pytest.raises(ConfigError, match=r"^train\.precision=tf32: device=cpu has none"),
        unchanged(),
    ):
        device.prepare("cpu", 1, "tf32")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [None, "tf32", "bf16"])
def test_a_gpu_has_tf32_only_where_it_is_asked_for(precision):
    x, y = torch.randn(256, 256).cuda(), torch.randn(256, 256).cuda()
    with unchanged():
        device.prepare("cuda", 1, precision)
        apart = (x @ y - (x.double() @ y.double()).float()).abs().max()
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    assert (apart > 1e-3) == (precision == "tf32")


@pytest.mark.gpu
def test_a_step_never_waits_for_the_gpu():
    with unchanged():
        device.prepare("cuda", 1)
        model, data = network().cuda(), split(64).to(torch.device("cuda"))
        optimizer, pruner = adam(model), prunelab.Pruner(model)
        pruner.prune(0.5)
        order = torch.randperm(64).cuda().split(8)
        train_step(model, optimizer, *data.batch(order[0]), 1, [])
        with never_waiting():
            for number, index in enumerate(order, 2):
                train_step(model, optimizer, *data.batch(index), number, [])


def test_the_default_is_fp32():
    ends = []
    for precision in (None, "fp32"):
        model = network()
        ends.append((without_seconds(trained(model, adam(model), precision=precision)), bits(model)))
    assert ends[0] == ends[1]
