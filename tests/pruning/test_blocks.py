"""Which layers of a network can be left out, and which are only stacks of such layers."""

import pytest
import torch
from torch import nn

from prunelab.errors import ConfigError
from prunelab.models.deep_mlp import Block
from prunelab.models.torchvision_models import torchvision_model
from prunelab.pruning import blocks


def found(model, shape):
    return blocks.outermost(model, blocks.keeping(model, shape, "test"))


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.body(x)


class Encoder(nn.Module):
    """A stack, with something of its own before the layers."""

    def __init__(self, *layers):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(4))
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        x = x + self.position
        for layer in self.layers:
            x = layer(x)
        return x


def test_a_block_is_outermost_whatever_is_in_it():
    body = (nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    assert found(nn.Sequential(Residual(*body), nn.Linear(4, 2)), (4,)) == ["0"]
    assert found(nn.Sequential(Residual(nn.Sequential(*body), nn.Sequential(*body))), (4,)) == ["0"]
    assert found(nn.Sequential(Residual(Block(4)), Block(4)), (4,)) == ["0", "1"]


def test_a_stack_is_no_block():
    assert found(nn.Sequential(Encoder(Block(4), Block(4)), nn.Linear(4, 2)), (4,)) == ["0.layers.0", "0.layers.1"]
    assert found(nn.Sequential(Encoder(Block(4), nn.Linear(4, 4))), (4,)) == ["0"]  # not alike
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    assert found(nn.Sequential(encoder), (5, 4)) == [f"0.layers.{i}" for i in range(3)]


def test_torchvisions_vision_transformer():
    with torch.device("meta"):
        model = torchvision_model("vit_b_16", shape=(3, 224, 224))
    names = [f"encoder.layers.encoder_layer_{i}" for i in range(12)]
    keep = {"encoder", "encoder.layers", *names, *(f"{name}.mlp" for name in names)}
    assert blocks.outermost(model, keep) == names


def test_looking_for_blocks_leaves_each_module_in_its_own_mode():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Dropout())
    model[0].eval()
    assert blocks.keeping(model, (4,), "test") == {"0", "1", "2"}
    assert [module.training for module in model.modules()] == [True, False, True, True]
    assert not any(module._forward_hooks for module in model.modules())


def test_a_shape_that_the_model_cannot_take_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"^strategy=layer: the model cannot take \[5\]: ") as caught:
        blocks.keeping(nn.Linear(4, 4), (5,), "strategy=layer")
    assert "\n" not in str(caught.value)


class Picky(nn.Linear):
    def forward(self, x):
        raise AssertionError


def test_whatever_a_model_raises_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"^strategy=layer: the model cannot take \[4\]: AssertionError$"):
        blocks.keeping(Picky(4, 4), (4,), "strategy=layer")
