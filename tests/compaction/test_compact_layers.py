"""Whole layers that never run are gone from the compact network: removed ones, and those with a closed gate."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy_networks import parameters, settle

from prunelab.compaction import compact, load, save
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.residual_lenet import ResidualLeNet
from prunelab.models.torchvision_models import torchvision_model
from prunelab.models.vit import ViT
from prunelab.pruning import skipping
from prunelab.pruning.gated import gated_class

SHAPE = (1, 28, 28)
MODELS = {
    "deep_mlp": (lambda: DeepMLP(20, 4), SHAPE, [f"blocks.{i}" for i in range(4)]),
    "residual_lenet": (lambda: ResidualLeNet(4, 3), SHAPE, [f"blocks.{i}" for i in range(3)]),
    "vit": (lambda: ViT(dim=16, depth=3, heads=2), SHAPE, [f"blocks.{i}" for i in range(3)]),
    "resnet18": (
        lambda: torchvision_model("resnet18", shape=(3, 32, 32)),
        (3, 32, 32),
        ["layer1.0", "layer1.1", *(f"layer{i}.{part}" for i in (2, 3, 4) for part in ("0.conv2", "1"))],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_removed_layers_are_identities(name, tmp_path):
    make, shape, names = MODELS[name]
    torch.manual_seed(0)
    model = settle(make(), shape)
    gone = names[1::2][:2]
    expected = make()
    x = torch.randn(4, *shape)
    with torch.no_grad():
        for path in gone:
            for parameter in model.get_submodule(path).parameters():
                parameter.zero_()
            skipping.set_skipped(model.get_submodule(path), True)
        expected.load_state_dict(model.state_dict())
        for path in gone:  # by hand
            expected.set_submodule(path, nn.Identity())
        compacted = compact(model, x[:1])
        difference = (expected.eval()(x) - compacted.model(x)).abs().max()
    assert float(difference) <= 1e-5
    assert parameters(compacted.model) <= parameters(expected)
    assert {line for line in compacted.removed if "the strategy removed it" in line} == {
        f"{path}: the whole layer, since the strategy removed it" for path in gone
    }
    save(tmp_path, compacted)
    with torch.no_grad():
        assert torch.equal(load(make(), tmp_path)(x), compacted.model(x))


def test_a_layer_whose_gate_is_closed_is_gone(tmp_path):
    def make():
        torch.manual_seed(0)
        model = DeepMLP(12, 3)
        for block in model.blocks:
            block.__class__ = gated_class(type(block))
            block.register_parameter("gate", nn.Parameter(torch.tensor(2.0)))
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
