"""Hidden units of recurrent layers: those that are always 0, those that nobody reads, and those that stay."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toy_networks import Net, apart

from prunelab.compaction import compact, load, save
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


class BesideALinearLayer(nn.Module):
    """An LSTM reads zeros where a linear layer reads sigmoid(0) = ½."""

    def __init__(self):
        super().__init__()
        self.first, self.lstm, self.linear = nn.Linear(4, 6), nn.LSTM(6, 3, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        return self.lstm(hidden)[0][:, -1] + self.linear(torch.sigmoid(hidden))[:, -1]


def test_of_a_layer_without_weights_an_lstm_and_a_linear_layer_keep_one_channel():
    torch.manual_seed(0)
    model = BesideALinearLayer()
    nn.init.zeros_(model.first.weight)
    nn.init.zeros_(model.first.bias)
    x = torch.randn(3, 5, 4)
    compacted = compact(model, x)
    assert compacted.model.lstm.weight_ih_l0.shape == (12, 1)
    assert apart(model, compacted.model, x) < 1e-6


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


@torch.no_grad()
def zero_at_random(model, seed, share):
    """Set a share of the rows and columns of all parameters to zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter[torch.rand(len(parameter), generator=generator) < share] = 0
        if parameter.dim() > 1:
            parameter[:, torch.rand(parameter.shape[1], generator=generator) < share] = 0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(layers=st.integers(1, 2), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_a_random_lstm_agrees(layers, seed, share):
    model = lstm(5, layers)
    zero_at_random(model, seed, share)
    assert apart(model, compact(model, torch.randn(1, *SHAPE)).model, torch.randn(9, *SHAPE)) < 1e-5


def recurrent(kind, **how):
    """A layer that reads 5 features, with 6 hidden units, and a linear layer that reads its output, or its state."""
    torch.manual_seed(0)
    return getattr(nn, kind)(5, 6, **{"batch_first": True, **how})


def last(m, x):
    return m.fc(m.rnn(x)[0][:, -1])


def states(m, x):
    hidden = m.rnn(x)[1]
    hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # [layers · directions, n, 6]
    return m.fc(torch.cat([hidden[-2], hidden[-1]], -1))


def steps_first(m, x):
    return m.fc(torch.tanh(m.rnn(x.transpose(0, 1))[0].mean(0)))


def convolved(m, x):
    """A convolution before and one after."""
    y, _ = m.rnn(F.relu(m.conv(x.transpose(1, 2))).transpose(1, 2))
    return m.fc(F.relu(m.norm(m.over(y.transpose(1, 2)))).mean(-1))


def packed(m, x):
    lengths = torch.tensor([7, 4] * (len(x) // 2) + [3] * (len(x) % 2))
    y, _ = m.rnn(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return m.fc(nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0].sum(1))


def stacked(m, x):
    return m.fc(m.top(m.rnn(x)[0])[0][:, -1])


def coded(m, x):
    """The second layer starts from the state of the first one."""
    _, state = m.rnn(x)
    return m.fc(m.top(x, state)[0][:, -1])


def added(m, x):
    return m.fc((m.rnn(x)[0] + m.skip(x))[:, -1])


def output(m, x):
    return m.rnn(x)[0]


def squared(m, x):
    return m.fc(m.rnn(x)[0][:, -1] ** 2)


def cell(m, x):
    return m.fc(m.rnn(x)[1][1][-1])


CONVS = {"conv": nn.Conv1d(5, 5, 3), "over": nn.Conv1d(6, 4, 1), "norm": nn.BatchNorm1d(4)}
KINDS = ("LSTM", "GRU", "RNN")
NETWORKS = {  # name: function, its layers, the hidden size that is left, where something stays: the reason
    **{
        f"{kind} of {layers}, {directions} direction(s)": (
            last,
            lambda kind=kind, layers=layers, directions=directions: {
                "rnn": recurrent(kind, num_layers=layers, bidirectional=directions == 2),
                "fc": nn.Linear(6 * directions, 3),
            },
            4,
            None,
        )
        for kind in KINDS
        for layers in (1, 3)
        for directions in (1, 2)
    },
    **{
        f"states of {kind}": (
            states,
            lambda kind=kind: {"rnn": recurrent(kind, bidirectional=True), "fc": nn.Linear(12, 3)},
            4,
            None,
        )
        for kind in KINDS
    },
    "without biases": (last, lambda: {"rnn": recurrent("GRU", bias=False), "fc": nn.Linear(6, 3)}, 4, None),
    "relu": (last, lambda: {"rnn": recurrent("RNN", nonlinearity="relu"), "fc": nn.Linear(6, 3)}, 4, None),
    "steps first": (steps_first, lambda: {"rnn": recurrent("GRU", batch_first=False), "fc": nn.Linear(6, 3)}, 4, None),
    "between convolutions": (convolved, lambda: {"rnn": recurrent("GRU"), **CONVS, "fc": nn.Linear(4, 3)}, 4, None),
    "packed": (packed, lambda: {"rnn": recurrent("LSTM"), "fc": nn.Linear(6, 3)}, 4, None),
    "read by another": (
        stacked,
        lambda: {
            "rnn": recurrent("GRU", bidirectional=True),
            "top": nn.LSTM(12, 3, batch_first=True),
            "fc": nn.Linear(3, 3),
        },
        4,
        None,
    ),
    "projected": (last, lambda: {"rnn": recurrent("LSTM", proj_size=3), "fc": nn.Linear(3, 3)}, 4, None),
    "cell": (cell, lambda: {"rnn": recurrent("LSTM"), "fc": nn.Linear(6, 3)}, 4, None),
    "squared": (squared, lambda: {"rnn": recurrent("GRU"), "fc": nn.Linear(6, 3)}, 4, None),
    "given state": (
        coded,
        lambda: {"rnn": recurrent("GRU"), "top": nn.GRU(5, 6, batch_first=True), "fc": nn.Linear(6, 3)},
        6,
        "rnn: 2 hidden units that do nothing stay: top (GRU) starts from them",
    ),
    "added": (
        added,
        lambda: {"rnn": recurrent("GRU"), "skip": nn.Linear(5, 6), "fc": nn.Linear(6, 3)},
        6,
        "rnn: 2 hidden units that do nothing stay: they are combined with channels of skip",
    ),
    "output": (
        output,
        lambda: {"rnn": recurrent("GRU")},
        6,
        "rnn: 2 hidden units that do nothing stay: they are the network's output",
    ),
}


def silence_everywhere(rnn, units):
    """In every layer and direction."""
    new = {"LSTM": 2, "GRU": 2, "RNN": 0}[type(rnn).__name__] * rnn.hidden_size
    with torch.no_grad():
        for key, value in rnn.named_parameters():
            if not key.startswith("weight_hr"):
                value[[new + unit for unit in units]] = 0


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", NETWORKS)
def test_silent_units_go_from_every_layer_and_direction(name, tmp_path):
    run, make, size, why = NETWORKS[name]
    model = Net(run, **make()).eval()
    silence_everywhere(model.rnn, [1, 4])
    x = torch.randn(8, 7, 5)
    compacted = compact(model, x[:2])
    small = compacted.model
    assert small.rnn.hidden_size == size
    assert (
        len(small.rnn.bias_hh_l0 if small.rnn.bias else small.rnn.weight_hh_l0)
        == size * len(model.rnn.weight_hh_l0) // 6
    )
    assert compacted.kept_because == ([why] if why else [])
    assert apart(model, small, x) < 1e-6
    save(tmp_path, compacted)
    assert apart(small, load(Net(run, **make()).eval(), tmp_path), x) == 0


def test_a_direction_that_nobody_reads_gives_no_reason_to_keep_the_other():
    """Only the forward half is read; the backward half has nothing to lose but the same number of units."""
    model = Net(
        lambda m, x: m.fc(m.rnn(x)[0][..., :6].mean(1)), rnn=recurrent("GRU", bidirectional=True), fc=nn.Linear(6, 3)
    )
    silence_everywhere(model.rnn, [0])
    compacted = compact(model, torch.randn(2, 7, 5))
    assert apart(model, compacted.model, torch.randn(8, 7, 5)) < 1e-6


def test_directions_lose_equally_many():
    model = Net(last, rnn=recurrent("GRU", bidirectional=True), fc=nn.Linear(12, 3)).eval()
    silence_everywhere(model.rnn, [1])
    with torch.no_grad():
        for key in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(model.rnn, key)[[12 + 3, 12 + 5]] = 0
    compacted = compact(model, torch.randn(2, 7, 5))
    assert compacted.model.rnn.hidden_size == 5
    assert compacted.kept_because == [
        "rnn: 2 hidden units that do nothing stay: all layers and directions of a GRU have one width"
    ]


@pytest.mark.parametrize(("multiple", "left"), [(1, 4), (2, 4), (3, 6), (5, 5)])
def test_hidden_units_are_left_for_a_multiple(multiple, left):
    model = Net(last, rnn=recurrent("GRU"), fc=nn.Linear(6, 3)).eval()
    silence_everywhere(model.rnn, [1, 4])
    assert compact(model, torch.randn(2, 7, 5), multiple).model.rnn.hidden_size == left


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    layers=st.integers(1, 2),
    both=st.booleans(),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
    share=st.floats(0, 1),
)
def test_any_recurrent_layer_agrees(kind, layers, both, bias, seed, share):
    rnn = recurrent(kind, num_layers=layers, bidirectional=both, bias=bias)
    model = Net(last, rnn=rnn, fc=nn.Linear(6 * (1 + both), 3)).eval()
    zero_at_random(model, seed, share)
    assert apart(model, compact(model, torch.randn(1, 7, 5)).model, torch.randn(9, 7, 5)) < 1e-5


def test_a_cell_stays_and_is_named():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.fc = nn.GRUCell(5, 4), nn.Linear(4, 2)

        def forward(self, x):
            state = x.new_zeros(len(x), 4)
            for step in x.unbind(1):
                state = self.cell(step, state)
            return self.fc(state)

    compacted = compact(Cell(), torch.randn(2, 7, 5))
    assert "cell: hidden units of GRUCell are not compacted" in compacted.kept_because
