"""What a run reports is what its files hold: counted and evaluated again here, by code that shares nothing with it."""

import dataclasses
import json

import pytest
import torch
from conftest import composed, overrides
from safetensors.torch import load_file

import prunelab
from prunelab.data.mnist import mnist
from prunelab.errors import ConfigError
from prunelab.experiment import gate, phase, proof
from prunelab.models.lenet import LeNet300100
from prunelab.runtime import fresh_process

NETWORKS = """
import torch
from torch import nn

class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.o = (nn.Linear(*size) for size in ((784, 24), (24, 24), (24, 24), (24, 10)))
        self.c.weight = self.b.weight

    def forward(self, x):
        return self.o(torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x.flatten(1))))))))

class Shuffled(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))
        self.register_buffer("order", torch.randperm(784), persistent=False)

    def forward(self, x):
        return super().forward(x.flatten(1)[:, torch.randperm(784) if self.training else self.order])
"""


@pytest.fixture(autouse=True)
def _in_a_fresh_process(monkeypatch):
    monkeypatch.setattr(proof, "fresh_process", fresh_process)


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    (tmp_path / "proof_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    return ["trusted=[proof_networks]", "schedule.rounds=1"]


def run(tmp_path, *more):
    result = prunelab.run(composed(tmp_path, "schedule.rounds=1", *more))
    return result, json.loads((result.folder / "summary.json").read_text())


def test_shared_weights_are_reported_as_they_are_saved(tmp_path, trusted):
    import importlib

    method = ["strategy=custom", "strategy.method=torch.nn.utils.prune.RandomUnstructured", "amount=0.5"]
    result, said = run(tmp_path, *trusted, "model._target_=proof_networks.Twins", *method)
    assert (said["status"], result.problems) == ("completed", [])
    model = importlib.import_module("proof_networks").Twins()
    model.load_state_dict(load_file(result.folder / "model.safetensors"))
    test = mnist(limit=300).test
    with torch.no_grad():
        correct = (model(test.batch(slice(None))[0]).argmax(1) == test.labels).float().mean()
    assert said["final"]["test_accuracy"] == pytest.approx(float(correct), abs=1e-6)
    tensors = [model.a.weight, model.b.weight, model.o.weight]
    biases = sum(layer.bias.numel() for layer in (model.a, model.b, model.c, model.o))
    assert said["final"]["nonzero"] == sum(int((t != 0).sum()) for t in tensors) + biases
    assert said["final"]["parameters"] == sum(t.numel() for t in tensors) + biases
    loaded = prunelab.load(result.folder, ["proof_networks"])
    assert loaded.b.weight is loaded.c.weight


@pytest.mark.parametrize(
    ("key", "value"), [("test_accuracy", 0.875), ("nonzero", 7), ("parameters", 9), ("sparsity", 0.1)]
)
def test_a_number_that_the_files_do_not_hold_fails_the_run_and_keeps_it(tmp_path, monkeypatch, key, value):
    honest = phase._measure
    wrong = {key: value}
    monkeypatch.setattr(phase, "_measure", lambda *args: dataclasses.replace(honest(*args), **wrong))
    result, said = run(tmp_path, "model=lenet_300_100")
    (line,) = result.problems
    assert f"the saved network has {key}=" in line
    assert f"not {value:,} as reported" in line
    assert (said["status"], said["error"]) == ("failed", line)
    assert len(result.rounds) == 2
    prunelab.load(result.folder)  # the files are right, and they are still there


def test_a_network_with_state_that_no_file_holds(tmp_path, trusted, monkeypatch):
    """The gate refuses such a network before training; here the gate is open."""
    monkeypatch.setattr(gate, "check", lambda *_: None)
    result, said = run(tmp_path, *trusted, "model._target_=proof_networks.Shuffled", "seed=4")
    assert "is not the one that was saved" in result.problems[0]
    assert said["status"] == "failed"
    with pytest.raises(ConfigError, match="is not the one that was saved"):
        prunelab.load(result.folder, ["proof_networks"])


def test_a_live_model_is_filled_from_its_files(tmp_path, monkeypatch):
    few = composed(tmp_path, "schedule.rounds=1")
    assert prunelab.run(few, model=LeNet300100()).problems == []
    honest = phase._measure
    monkeypatch.setattr(phase, "_measure", lambda *args: dataclasses.replace(honest(*args), nonzero=7))
    (line,) = prunelab.run(few, model=LeNet300100()).problems
    assert "not 7 as reported" in line


def test_the_compact_network_is_proven_too(tmp_path, monkeypatch):
    from prunelab.compaction import compact_files

    honest = compact_files.save

    def other(folder, compacted, example):
        with torch.no_grad():
            next(compacted.model.parameters()).neg_()
        honest(folder, compacted)

    small = ("strategy=channel", "amount=0.5", "model=lenet_300_100")
    result, said = run(tmp_path, *small)
    assert (result.problems, said["status"]) == ([], "completed")
    monkeypatch.setattr(compact_files, "save", other)
    (line,) = run(tmp_path, *small)[0].problems
    assert "the compact network in its files has test_accuracy=" in line


class Versioned(torch.nn.Sequential):
    """A network whose loading asks for the version of its modules, which no file has; as MNASNet's."""

    _version = 2

    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(784, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))

    def _load_from_state_dict(self, state, prefix, local, *rest):
        if local.get("version") != 2:
            raise ValueError(f"version={local.get('version')}: must be 2")
        super()._load_from_state_dict(state, prefix, local, *rest)


def test_a_network_that_asks_for_its_version(tmp_path):
    few = overrides(tmp_path, "schedule=one_shot", "strategy=channel", "amount=0.5")
    named = [*few, f"model._target_={__name__}.Versioned"]
    assert prunelab.run(*few, model=Versioned(), quiet=True).problems == []
    result = prunelab.run(*named, quiet=True)
    assert result.problems == []
    torch.save(load_file(result.folder / "model.safetensors"), tmp_path / "plain.pt")
    for path in (result.folder, tmp_path / "plain.pt"):
        assert prunelab.run(*named, f"model.checkpoint={path}", "train.epochs=0", quiet=True).problems == []
