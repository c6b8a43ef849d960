"""Compact networks as files: rebuilt in a fresh process, to the bit; and what does not fit is refused."""

from __future__ import annotations

import json

import forked
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_compact_attention import zero_head
from test_compact_channels import Convs
from test_recurrent_units import silence
from toy_networks import parameters, settle, zero_channels

from prunelab.compaction import compact, load, rebuild, save, shapes
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.lenet import LeNet
from prunelab.models.lstm import LSTM
from prunelab.models.residual_lenet import ResidualLeNet
from prunelab.models.vit import ViT

SHAPE = (1, 28, 28)


def lenet():
    model = LeNet()
    zero_channels(model, "conv1", [0, 2])
    zero_channels(model, "fc1", list(range(50)))
    return model


def residual():
    model = settle(ResidualLeNet(), SHAPE)
    zero_channels(model, "blocks.0.conv1", [1, 2, 3])
    zero_channels(model, "blocks.1.conv2", list(range(16)))  # the whole branch
    return model


def vit():
    model = ViT(dim=16, depth=2)
    zero_head(model.blocks[0].attention, 1, "values")
    for head in range(4):
        zero_head(model.blocks[1].attention, head, "output")
    zero_channels(model, "blocks.1.mlp.0", [0, 5])
    return model


def lstm():
    model = LSTM(8)
    silence(model.lstm, 3)
    return model


def with_a_new_bias():
    torch.manual_seed(0)
    model = settle(Convs(bias=False), (2, 9, 9))
    zero_channels(model, "a", [0, 1, 2])
    return model


MADE = {"lenet": (lenet, LeNet), "residual": (residual, ResidualLeNet), "lstm": (lstm, lambda: LSTM(8))}
MADE |= {"vit": (vit, lambda: ViT(dim=16, depth=2)), "bias": (with_a_new_bias, lambda: Convs(bias=False))}


@pytest.mark.parametrize("name", MADE)
def test_rebuilt_to_the_bit(name, tmp_path):
    make, dense = MADE[name]
    torch.manual_seed(0)
    x = torch.randn(5, *((2, 9, 9) if name == "bias" else SHAPE))
    compacted = compact(make(), x[:1])
    assert parameters(compacted.model) < parameters(dense())
    save(tmp_path, compacted)
    loaded = load(dense(), tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(x), compacted.model(x))
    assert shapes(loaded) == shapes(compacted.model)
    assert str(loaded) == str(compacted.model)


def seen_again(folder, channels):
    seen = load_file(folder / "seen.safetensors")
    loaded = load(ResidualLeNet(), folder)
    assert torch.equal(loaded(seen["x"]).detach(), seen["y"])
    assert loaded.blocks[0].conv1.out_channels == channels


def test_rebuilt_in_a_fresh_process(tmp_path):
    compacted = compact(residual(), torch.randn(1, *SHAPE))
    save(tmp_path, compacted)
    x = torch.randn(5, *SHAPE)
    save_file({"x": x, "y": compacted.model(x).detach()}, tmp_path / "seen.safetensors")
    forked.call(seen_again, tmp_path, compacted.model.blocks[0].conv1.out_channels)
    said = json.loads((tmp_path / "compact.json").read_text())
    assert said["removed"] == compacted.removed
    assert said["largest_difference"] == compacted.proof.largest_difference


@pytest.mark.parametrize("wrong", ["class", "format", "state", "kind", "size"])
def test_what_does_not_belong_together_is_refused(wrong, tmp_path):
    save(tmp_path, compact(lenet(), torch.randn(1, *SHAPE)))
    description, state = (
        json.loads((tmp_path / "compact.json").read_text()),
        load_file(tmp_path / "compact.safetensors"),
    )
    model = LeNet()
    if wrong == "class":
        model = DeepMLP(10, 2)
    elif wrong == "format":
        description["format"] = 99
    elif wrong == "state":
        del state["fc1.bias"]
    elif wrong == "kind":
        description["modules"]["conv1"]["kind"] = "Linear"
    else:
        description["modules"]["conv1"]["sizes"]["stride"] = 3
    with pytest.raises(ValueError, match=r"LeNet|DeepMLP|format=99"):
        rebuild(model, description, state)
