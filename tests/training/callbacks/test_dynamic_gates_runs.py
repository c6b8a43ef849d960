"""Dynamic gates in experiments: what closes them, rewinding and export, their optimizer group, and resuming."""

import json

import pytest
import torch
from conftest import overrides
from phases import assert_same_end, resumed, run
from safetensors.torch import load_file

import prunelab
from prunelab.errors import ConfigError
from prunelab.models.deep_mlp import DeepMLP
from prunelab.pruning.gated import gated
from prunelab.training.callbacks.dynamic_gates import DynamicGates

SHAPE = (1, 28, 28)


def test_a_strong_penalty_closes_gates_and_a_weak_one_does_not(tmp_path):
    how = ("regularizer=dynamic_gates", "model=deep_mlp", "model.depth=4", "regularizer.lr=0.5", "finetune.epochs=0")
    how = (*how, "train.epochs=2")
    share = {}
    for strength in (0, 100):
        result = run(tmp_path, *how, f"regularizer.strength={strength}")
        share[strength] = json.loads((result.folder / "summary.json").read_text())["layers_executed"]
        assert share[strength] == sum(layer.executed for layer in gated(result.model)) / 4
    assert share[100] == 0
    assert share[0] > 0.5


# Which layers


@pytest.mark.slow
def test_rounds_keep_the_gates_as_dense_training_left_them(tmp_path):
    how = ("regularizer=dynamic_gates", "model=residual_lenet", "regularizer.lr=0.5", "optimizer.weight_decay=0.1")
    how = (*how, "train.epochs=2", "schedule.rounds=2", "regularizer.strength=0.5", "data.limit=200")
    result = run(tmp_path, *how)
    dense = load_file(tmp_path / "outputs" / "stages" / result.rounds[0].stage / "weights.safetensors")
    final = load_file(result.folder / "model.safetensors")
    gates = [name for name in final if name.endswith(".gate")]
    assert gates == [f"blocks.{number}.gate" for number in range(3)]
    for name in gates:
        assert final[name] == dense[name] != 2
    assert result.rounds[2].sparsity == pytest.approx(1 - 0.8**2, abs=1e-3)
    assert not torch.equal(final["blocks.0.conv1.weight"], dense["blocks.0.conv1.weight"])


def test_the_exported_weights_go_into_a_prepared_model(tmp_path):
    how = ("regularizer=dynamic_gates", "model=deep_mlp", "regularizer.strength=100", "regularizer.lr=1")
    result = run(tmp_path, *how, "schedule.rounds=1")
    model = DeepMLP()
    DynamicGates.prepare(model, SHAPE)
    model.load_state_dict(load_file(result.folder / "model.safetensors"))
    x = torch.randn(3, *SHAPE)
    assert torch.equal(model.eval()(x), result.model.eval()(x))
    assert [layer.executed for layer in gated(model)] == [False] * 8


def test_a_broken_off_run_ends_the_same(tmp_path):
    how = ("regularizer=dynamic_gates", "model=deep_mlp", "regularizer.lr=0.5", "schedule.rounds=1")
    expected = run(tmp_path / "whole", *how)
    assert_same_end(resumed(tmp_path, 3, *how), expected)


def test_the_gates_have_their_own_group_in_the_optimizer(tmp_path):
    """SGD with a penalty alone: the gate moves by lr · slope, without the network's learning rate or weight decay."""
    how = ("regularizer=dynamic_gates", "model=deep_mlp", "optimizer=sgd", "optimizer.lr=1e-9", "optimizer.momentum=0")
    how = (*how, "optimizer.weight_decay=1000", "regularizer.lr=0.1", "regularizer.strength=0", "finetune.epochs=0")
    result = run(tmp_path, *how)
    gates = torch.stack([layer.gate for layer in gated(result.model)])
    assert (gates != 2).all()
    assert (gates > 1.5).all()  # a decay of 1000 would have thrown them far off


# What it saves


def test_summary_and_console_say_it_for_gated_models_only(tmp_path, capsys):
    how = ("regularizer=dynamic_gates", "model=deep_mlp", "regularizer.strength=100", "regularizer.lr=1")
    result = run(tmp_path, *how, "schedule.rounds=1")
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["layers_executed"] == 0
    assert 0 < summary["time_saved"] < 1
    assert "gates: 0.0% of the layers are executed, which saves " in capsys.readouterr().out
    result = run(tmp_path, "model=deep_mlp", "schedule.rounds=1")
    assert "time_saved" not in json.loads((result.folder / "summary.json").read_text())
    assert "gates" not in capsys.readouterr().out


def test_a_model_without_such_layers_is_refused_before_data_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match=r"no layer of LeNet"):
        prunelab.run(prunelab.compose("regularizer=dynamic_gates", *overrides(tmp_path)))
