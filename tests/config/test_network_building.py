"""The network that a config names: shape and classes from the data, gates, marked layers; from stored data too."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

import prunelab
from prunelab.config.network import data_facts, from_plain, network
from prunelab.config.resolve import resolve
from prunelab.errors import ConfigError
from prunelab.pruning import skipping


def built(*overrides):
    return network(resolve(prunelab.compose(*overrides)))


def test_shape_and_classes_come_from_the_data():
    model = built("data=synthetic", "data.shape=[3,16,16]", "data.classes=7", "model=deep_mlp")
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 7)


def test_what_is_known_of_the_data():
    spec = resolve(prunelab.compose("data=cifar10"))
    assert data_facts(spec.data).known == {"shape": (3, 32, 32), "classes": 10}


def test_the_gates_of_a_regularizer_are_parameters_of_the_network():
    names = [name for name, _ in built("model=deep_mlp", "regularizer=dynamic_gates").named_parameters()]
    assert [name for name in names if name.endswith("gate")] == [f"blocks.{i}.gate" for i in range(8)]
    chosen = built("model=deep_mlp", "regularizer=dynamic_gates", "regularizer.layers=[blocks.3]")
    assert [name for name, _ in chosen.named_parameters() if name.endswith("gate")] == ["blocks.3.gate"]


def test_the_layers_of_strategy_layer_are_marked():
    assert list(skipping.marked(built("model=deep_mlp", "strategy=layer"))) == [f"blocks.{i}" for i in range(8)]
    assert not skipping.marked(built("model=deep_mlp"))


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "their_things.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Linear(2, 2)\n"
        "def number():\n    return 3\n"
        "def score(weight):\n    return weight.abs()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop("their_things", None)


def test_what_makes_no_module_is_refused(package):
    with pytest.raises(ConfigError, match=r"model._target_=their_things.number: must make a torch.nn.Module"):
        built("model._target_=their_things.number", "trusted=[their_things]")


def test_a_network_is_built_from_stored_data_without_trust_in_its_pruning(package):
    how = ["strategy=custom", "strategy.method=their_things.score", "trusted=[their_things]"]
    stored = resolve(prunelab.compose(*how)).plain
    assert isinstance(network(from_plain(stored)), torch.nn.Module)
    stored = resolve(prunelab.compose("model._target_=their_things.net", "trusted=[their_things]")).plain
    with pytest.raises(ConfigError, match=r"trusted=\[their_things\]"):
        from_plain(stored)
    assert isinstance(network(from_plain(stored, ["their_things"])), torch.nn.Linear)


@pytest.mark.parametrize("broken", [{}, {"data": None}, {"data": {"_target_": "os.system"}}, {"data": {}}])
def test_stored_data_that_builds_no_network_is_a_config_error(broken):
    with pytest.raises(ConfigError, match="data"):
        from_plain({"model": {"_target_": "prunelab.models.lenet.LeNet"}, **broken})
