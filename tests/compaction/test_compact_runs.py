"""Compaction as a part of an experiment."""

import json

import torch
from conftest import overrides
from safetensors.torch import load_file

import prunelab
from prunelab import compaction as compact
from prunelab.data.mnist import mnist
from prunelab.models.lenet import LeNet


def test_strategy_channel_ends_with_a_smaller_network_that_computes_the_same(tmp_path):
    few = overrides(tmp_path, "strategy=channel", "amount=0.5", "schedule.rounds=1")
    result = prunelab.run(prunelab.compose(*few))
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["compact"]["agree"]
    (card,) = [row for row in summary["cost"] if row["form"] == "compact"]
    assert card["parameters"] == sum(p.numel() for p in result.model.parameters()) < 60_074 / 2
    masked = LeNet()
    masked.load_state_dict(load_file(result.folder / "model.safetensors"))
    stored = compact.load(LeNet(), result.folder)
    inputs, _ = mnist(limit=300).test.batch(slice(None))
    with torch.no_grad():
        expected = masked.eval()(inputs)
        for model in (result.model, stored):
            assert torch.allclose(model.eval()(inputs), expected, atol=1e-5)


def test_a_network_without_empty_channels_stays_and_says_so(tmp_path):
    result = prunelab.run(prunelab.compose(*overrides(tmp_path, "compact=true", "schedule.rounds=1", "strategy=l1")))
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["compact"]["removed"] == []
    assert [row["parameters"] for row in summary["cost"] if row["form"] == "compact"] == [60_074]
    assert summary["compact"]["kept_because"]
