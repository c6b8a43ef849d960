"""Hidden units of an LSTM: those that are always 0, those that nobody reads, and those that stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toy_networks import apart

from prunelab.compaction import compact
from prunelab.models.lstm import LSTM

SHAPE = (1, 6, 5)


def lstm(hidden=6, layers=1):
    torch.manual_seed(0)
    return LSTM(hidden, layers, shape=SHAPE, classes=3).eval()


@torch.no_grad()
def silence(module, unit, layer=0):
    """No cell gate: nothing ever enters the cell."""
    row = 2 * module.hidden_size + unit
    for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(module, f"{key}_l{layer}")[row] = 0


@torch.no_grad()
def unread(model, units):
    """Nobody but these units themselves reads them."""
    size = model.lstm.hidden_size
    others = [unit for unit in range(size) if unit not in units]
    weight = model.lstm.weight_hh_l0.view(4, size, size)
    for unit in units:
        weight[:, others, unit] = 0
        model.fc.weight[:, unit] = 0


def test_a_unit_that_is_always_zero_goes():
    model = lstm()
    silence(model.lstm, 1)
    silence(model.lstm, 4)
    compacted = compact(model, torch.randn(1, *SHAPE))
    small = compacted.model
    assert compacted.removed == ["lstm: 2 of 6 hidden units"]
    assert small.lstm.weight_hh_l0.shape == (16, 4)
    assert torch.equal(small.fc.weight, model.fc.weight[:, [0, 2, 3, 5]])
    assert torch.equal(small.lstm.weight_ih_l0[:4], model.lstm.weight_ih_l0[[0, 2, 3, 5]])
    assert apart(model, small, torch.randn(9, *SHAPE)) < 1e-6


def test_units_that_only_read_each_other_go():
    model = lstm()
    unread(model, [0, 3])
    small = compact(model, torch.randn(1, *SHAPE)).model
    assert small.lstm.hidden_size == 4
    assert apart(model, small, torch.randn(9, *SHAPE)) < 1e-6


@pytest.mark.parametrize("who", ["head", "unit"])
def test_a_unit_that_somebody_reads_stays(who):
    model = lstm()
    unread(model, [2])
    with torch.no_grad():
        if who == "head":
            model.fc.weight[1, 2] = 0.5
        else:
            model.lstm.weight_hh_l0[6 + 4, 2] = 0.5  # the forget gate of unit 4
    silence(model.lstm, 5)
    compacted = compact(model, torch.randn(1, *SHAPE))
    assert compacted.removed == ["lstm: 1 of 6 hidden units"]
    assert torch.equal(compacted.model.fc.weight, model.fc.weight[:, :5])


@pytest.mark.parametrize("key", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_a_unit_into_whose_cell_something_flows_stays(key):
    model = lstm()
    silence(model.lstm, 1)
    with torch.no_grad():
        getattr(model.lstm, key)[12 + 1] = 0.5
    assert compact(model, torch.randn(1, *SHAPE)).model.lstm.hidden_size == 6


def test_layers_lose_as_many_as_the_one_with_the_fewest():
    model = lstm(layers=2)
    for unit in (0, 1, 2):
        silence(model.lstm, unit, 0)
    silence(model.lstm, 5, 1)
    compacted = compact(model, torch.randn(1, *SHAPE))
    assert compacted.removed == ["lstm: 1 of 6 hidden units"]
    assert compacted.kept_because == ["lstm: 2 hidden units that do nothing stay: all layers of an LSTM have one width"]
    assert apart(model, compacted.model, torch.randn(9, *SHAPE)) < 1e-6


@settings(max_examples=25, deadline=None, derandomize=True)
@given(layers=st.integers(1, 2), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_a_random_lstm_agrees(layers, seed, share):
    model = lstm(5, layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter[torch.rand(len(parameter), generator=generator) < share] = 0
            if parameter.dim() > 1:
                parameter[:, torch.rand(parameter.shape[1], generator=generator) < share] = 0
    assert apart(model, compact(model, torch.randn(1, *SHAPE)).model, torch.randn(9, *SHAPE)) < 1e-5


class Other(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.way = way
        self.lstm = nn.LSTM(5, 6, batch_first=True, bidirectional=way == "bidirectional", proj_size=3 * (way == "proj"))
        self.fc = nn.Linear({"bidirectional": 12, "proj": 3}.get(way, 6), 3)

    def forward(self, x):
        states, (hidden, cell) = self.lstm(x.flatten(1, 2))
        if self.way == "state":
            start = torch.ones(1, len(x), 6, dtype=x.dtype)
            states, (hidden, cell) = self.lstm(x.flatten(1, 2), (start, start))
        if self.way == "cell":
            return self.fc(cell[-1])
        if self.way == "hidden":
            return self.fc(hidden[-1])
        if self.way == "squared":
            return self.fc(states[:, -1] ** 2)
        return self.fc(states[:, -1])


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("way", ["bidirectional", "proj", "state", "cell", "hidden", "squared"])
def test_other_ways_to_read_an_lstm_are_right_or_refused(way):
    torch.manual_seed(0)
    model = Other(way).eval()
    silence(model.lstm, 1)
    compacted = compact(model, torch.randn(1, *SHAPE))
    assert compacted.model.lstm.hidden_size == (5 if way == "hidden" else 6)
    assert (way == "hidden") or any(sentence.startswith("lstm: ") for sentence in compacted.kept_because)
    assert apart(model, compacted.model, torch.randn(9, *SHAPE)) < 1e-6


def test_a_gru_is_named():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.fc = nn.GRU(5, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.gru(x.flatten(1, 2))[0][:, -1])

    compacted = compact(Last(), torch.randn(1, *SHAPE))
    assert compacted.kept_because == ["gru: hidden units of anything but an LSTM are not compacted"]
