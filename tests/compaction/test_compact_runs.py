"""Compaction as a part of an experiment."""

import json
import re

import pytest
import torch
from conftest import composed, overrides
from safetensors.torch import load_file

import prunelab
from prunelab import compaction as compact
from prunelab.data.mnist import mnist
from prunelab.errors import ConfigError
from prunelab.models.lenet import LeNet


def test_strategy_channel_ends_with_a_smaller_network_that_computes_the_same(tmp_path):
    few = overrides(tmp_path, "strategy=channel", "amount=0.5", "schedule.rounds=1")
    result = prunelab.run(prunelab.compose(*few))
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["compact"]["agree"]
    (card,) = [row for row in summary["cost"] if row["form"] == "compact (torch)"]
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
    result = prunelab.run(composed(tmp_path, "compact=true", "schedule.rounds=1", "strategy=l1"))
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["compact"]["removed"] == []
    assert [row["parameters"] for row in summary["cost"] if row["form"] == "compact (torch)"] == [60_074]
    assert summary["compact"]["kept_because"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("compact.round_to=8", "round_to=8: rounds what compaction leaves; needs compact=true"),
        ("compact.round_to=0", "round_to=0: must be null or a whole number ≥ 1"),
    ],
)
def test_a_multiple_that_cannot_be_is_refused(override, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        prunelab.compose(override)


def test_a_run_leaves_multiples_of_channels_and_neurons(tmp_path):
    few = overrides(tmp_path, "strategy=channel", "amount=0.55", "schedule.rounds=1", "compact.round_to=5")
    small = prunelab.run(prunelab.compose(*few)).model
    widths = [small.conv2.out_channels, small.fc1.out_features, small.fc2.out_features]
    assert widths == [10, 55, 40]  # of 16, 120 and 84 there are 7, 54 and 38 with weights
