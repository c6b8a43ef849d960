"""Layer removal: the least important blocks give way to the identity; by number, fraction and threshold."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy_networks import parameters, settle

from prunelab.compact import compact, importance, load, remove_layers, save
from prunelab.compact.layers import removable
from prunelab.config import ConfigError
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.lenet import LeNet
from prunelab.models.residual_lenet import ResidualLeNet
from prunelab.models.torchvision_models import torchvision_model
from prunelab.routines.dynamic_gates import DynamicGates

SHAPE = (1, 28, 28)


class Adds(nn.Module):
    """x + its number: what each layer is worth can be counted on one's fingers."""

    def __init__(self, value):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.value = value

    def forward(self, x):
        return x + self.value


def adding(*values):
    return nn.Sequential(*(Adds(value) for value in values))


def distance(target):
    """A loss: how far the network is from giving `target` for 0."""
    return lambda model: abs(float(model(torch.zeros(1, 1))) - target)


def test_importance_is_how_much_the_loss_grows():
    model = adding(3.0, -1.0, 0.5)  # gives 2.5
    found = importance(model, ["0", "1", "2"], distance(2.5))
    assert found == {"0": 3.0, "1": 1.0, "2": 0.5}
    assert [type(layer) for layer in model] == [Adds] * 3


@pytest.mark.parametrize(
    ("how", "gone"),
    [
        ({"amount": 0}, []),
        ({"amount": 1}, ["2"]),
        ({"amount": 2}, ["2", "1"]),  # 2 − 0.5 costs 0.5; then 3 is as far off as 2, −1 far more
        ({"amount": 0.5}, ["2", "1"]),  # round(1.5) = 2
        ({"threshold": 0.4}, []),
        ({"threshold": 0.5}, ["2", "1"]),
        ({"threshold": 2.4}, ["2", "1"]),
        ({"threshold": 2.5}, ["2", "1", "0"]),
    ],
)
def test_the_least_important_go_first(how, gone):
    model = adding(3.0, -1.0, 0.5)
    names = remove_layers(model, distance(2.5), (1,), **how)
    assert names == gone
    assert [name for name, layer in model.named_children() if isinstance(layer, nn.Identity)] == sorted(gone)


def test_importance_is_looked_up_anew():
    """1 and −1 cancel out: without one of them the other is worth something else."""
    model = adding(1.0, -1.0, 1.2)
    assert remove_layers(model, distance(1.2), (1,), amount=2) == ["0", "1"]


@pytest.mark.parametrize(
    ("make", "shape", "names"),
    [
        (lambda: DeepMLP(20, 4), SHAPE, [f"blocks.{i}" for i in range(4)]),
        (lambda: ResidualLeNet(4, 3), SHAPE, [f"blocks.{i}" for i in range(3)]),
        (
            lambda: torchvision_model("resnet18", shape=(3, 32, 32)),
            (3, 32, 32),
            ["layer1.0", "layer1.1", *(f"layer{i}.{part}" for i in (2, 3, 4) for part in ("0.conv2", "1"))],
        ),
    ],
)
def test_real_networks_run_without_their_blocks(make, shape, names, tmp_path):
    torch.manual_seed(0)
    model = settle(make(), shape)
    assert removable(model, shape) == names
    x = torch.randn(4, *shape)
    with torch.no_grad():
        before = model(x)
        loss = lambda network: float((network(x) - before).abs().mean())  # noqa: E731
        gone = remove_layers(model, loss, shape, amount=2)
        assert len(gone) == 2
        assert all(isinstance(model.get_submodule(name), nn.Identity) for name in gone)
        assert loss(model) > 0
    compacted = compact(model, x[:1])
    save(tmp_path, compacted)
    with torch.no_grad():
        assert torch.equal(load(make(), tmp_path)(x), compacted.model(x))


@pytest.mark.parametrize(
    "how", [{}, {"amount": 1, "threshold": 0.1}, {"amount": 4}, {"amount": 1.0}, {"amount": -1}, {"amount": True}]
)
def test_a_wrong_value_is_refused(how):
    with pytest.raises(ConfigError, match="amount"):
        remove_layers(adding(1.0, 2.0, 3.0), distance(6.0), (1,), **how)


def test_a_network_without_such_layers_is_refused():
    with pytest.raises(ConfigError, match="LeNet has no layer"):
        remove_layers(LeNet(), lambda model: 0.0, SHAPE, amount=0.5)


def test_a_layer_whose_gate_is_closed_is_gone(tmp_path):
    def make():
        torch.manual_seed(0)
        model = DeepMLP(12, 3)
        DynamicGates.prepare(model, SHAPE)
        return model

    model = make()
    with torch.no_grad():
        model.blocks[1].gate.fill_(-1.0)
    x = torch.randn(6, *SHAPE)
    compacted = compact(model, x[:1])
    assert compacted.removed == ["blocks.1: the whole layer, since its gate is closed"]
    assert parameters(compacted.model) == parameters(model) - 12 * 12 - 12 - 1
    save(tmp_path, compacted)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), compacted.model(x))
        assert torch.equal(load(make(), tmp_path)(x), compacted.model(x))
