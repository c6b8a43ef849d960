"""The story end to end on a slice of MNIST: what each round starts from, ends with, and never looks at."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import pytest
import torch
from conftest import broken_off, numbers, overrides, run, table
from safetensors.torch import load_file

import prunelab
from prunelab.experiment import bench as benches
from prunelab.experiment import phase
from prunelab.experiment.bench import Bench, snapshot
from prunelab.models.lenet import LeNet
from prunelab.runtime.seeding import derive
from prunelab.training import loop
from prunelab.training.loop import DivergedError


class Spy:
    """Records what `fit` is given: at its start, before each batch, and at the end of each epoch."""

    def __init__(self) -> None:
        self.bench: Bench
        self.starts: dict[tuple[int, int], tuple] = {}
        self.batches: dict[tuple[int, int], list] = {}
        self.ends: dict[tuple[int, int], list] = {}
        self.splits: list = []
        self.real = phase.fit

    def fit(self, model, optimizer, train, validation, spec, callbacks, *, on_batch, **how):
        key = spec.round, spec.iterations
        self.starts[key] = snapshot(model), self.bench.masks.state()
        self.batches[key], self.ends[key] = [], []
        self.splits += [train, validation]

        def noted():
            self.batches[key].append(snapshot(model))
            on_batch()

        for row in self.real(model, optimizer, train, validation, spec, callbacks, on_batch=noted, **how):
            self.ends[key].append(snapshot(model))
            yield row

    def start(self, round: int) -> tuple:
        """Weights and masks at the start of a round that was trained once."""
        (found,) = (value for (number, _), value in self.starts.items() if number == round)
        return found


@pytest.fixture
def spy(monkeypatch):
    spy, load = Spy(), Bench.load_data

    def load_data(self):
        spy.bench = self
        load(self)

    monkeypatch.setattr(Bench, "load_data", load_data)
    monkeypatch.setattr(phase, "fit", spy.fit)
    return spy


def same(one, other) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def times_mask(weights, kept):
    return {name: value * kept[name] if name in kept else value for name, value in weights.items()}


# What a round starts from


def initial(seed: int = 0):
    torch.manual_seed(derive(seed, "init"))
    return LeNet().state_dict()


def test_lottery_ticket_starts_each_round_from_initial_weights_times_mask(tmp_path, spy):
    run(tmp_path, "strategy=lottery_ticket", "schedule.rounds=3", "seed=7")
    assert same(spy.start(0)[0], initial(7))
    assert spy.start(0)[1] == {}
    before = None
    for round in (1, 2, 3):
        weights, kept = spy.start(round)
        assert same(weights, times_mask(initial(7), kept))
        assert all(name.endswith(".weight") for name in kept)
        if before:
            assert all(not (kept[name] & ~before[name]).any() for name in before)
        before = kept


def test_without_rewinding_a_round_goes_on_from_where_the_last_one_ended(tmp_path, spy):
    run(tmp_path, "strategy=global", "schedule.rounds=2")
    for round in (1, 2):
        (ended,) = (value for (number, _), value in spy.ends.items() if number == round - 1)
        weights, kept = spy.start(round)
        assert same(weights, times_mask(ended[-1], kept))


@pytest.mark.parametrize(("rewind", "batches"), [("1ep", 10), ("3it", 3), ("13it", 13)])
def test_late_rewinding_starts_each_round_from_that_point_of_dense_training(tmp_path, spy, rewind, batches):
    """300 examples in batches of 30: ten batches an epoch."""
    more = ("train.batch_size=30", "train.epochs=2", "schedule.rounds=2", f"rewind={rewind}")
    result = run(tmp_path, *more)
    point = spy.batches[0, 20][batches]  # before the batch after it
    for round in (1, 2):
        weights, kept = spy.start(round)
        assert same(weights, times_mask(point, kept))
        assert kept
    assert [row.round for row in result.rounds] == [0, 1, 2]


def test_rewinding_to_the_end_of_dense_training(tmp_path, spy):
    run(tmp_path, "schedule.rounds=2", "rewind=1ep")
    (ended,) = (value for (number, _), value in spy.ends.items() if number == 0)
    for round in (1, 2):
        weights, kept = spy.start(round)
        assert same(weights, times_mask(ended[-1], kept))


def test_rewinding_beyond_dense_training_is_refused(tmp_path):
    with pytest.raises(prunelab.ConfigError, match=r"rewind=6it.*5it"):
        run(tmp_path, "rewind=6it")
    with pytest.raises(prunelab.ConfigError, match=r"rewind=2ep.*1ep"):
        run(tmp_path, "rewind=2ep")


# The same, and not the same


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    how = ("strategy=random", "schedule.rounds=1", "reuse=false")
    first, second = run(tmp_path, *how), run(tmp_path, *how)
    assert first.folder != second.folder
    assert numbers(first.folder) == numbers(second.folder)
    assert not any(row.reused for row in second.rounds)
    assert same(first.model.state_dict(), second.model.state_dict())
    other = run(tmp_path, *how, "seed=1")
    assert numbers(other.folder) != numbers(first.folder)
    for name in ("train_loss", "test_loss"):
        assert all(getattr(a, name) != getattr(b, name) for a, b in zip(first.rounds, other.rounds, strict=True))


def test_what_ran_before_does_not_matter(tmp_path):
    first = run(tmp_path / "a", "schedule.rounds=1")
    torch.manual_seed(5)
    run(tmp_path / "b", "model=lenet_300_100", "schedule.rounds=1")
    assert numbers(run(tmp_path / "c", "schedule.rounds=1").folder) == numbers(first.folder)


# Reuse


def test_the_dense_stage_is_shared_by_all_strategies(tmp_path):
    first = run(tmp_path, "strategy=l1", "schedule.rounds=1")
    assert [row.reused for row in first.rounds] == [False, False]
    for strategy in ("ln_structured", "lottery_ticket"):
        result = run(tmp_path, f"strategy={strategy}", "schedule.rounds=1")
        assert [row.reused for row in result.rounds] == [True, False]
        assert result.rounds[0].stage == first.rounds[0].stage
    assert [row.reused for row in run(tmp_path, "strategy=l1", "schedule.rounds=1").rounds] == [True, True]
    assert not run(tmp_path, "strategy=l1", "schedule.rounds=1", "seed=1").rounds[0].reused


def test_more_rounds_go_on_from_the_ones_there_are(tmp_path):
    shorter = run(tmp_path, "schedule.rounds=1")
    longer = run(tmp_path, "schedule.rounds=2")
    assert [row.reused for row in longer.rounds] == [True, True, False]
    assert [replace(row, reused=False) for row in longer.rounds[:2]] == shorter.rounds
    assert numbers(run(tmp_path / "fresh", "schedule.rounds=2").folder) == numbers(longer.folder)


def test_late_rewinding_shares_the_dense_stage(tmp_path):
    run(tmp_path, "strategy=l1", "schedule.rounds=1", "rewind=3it")
    result = run(tmp_path, "strategy=global", "schedule.rounds=1", "rewind=3it")
    assert [row.reused for row in result.rounds] == [True, False]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`whole(*more)` gives the result of a run that nothing disturbed, and its folder."""

    @functools.cache
    def undisturbed(*more):
        folder = tmp_path_factory.mktemp("whole")
        return run(folder, *more), folder

    return undisturbed


def of(strategy, amount):
    return f"strategy={strategy}", f"amount={amount}", "schedule.rounds=2"


@pytest.mark.parametrize("how", [("lottery_ticket", 0.2), ("ln_structured", 0.5), ("ln_structured", 0.05)])
def test_a_reused_run_leaves_what_the_first_one_left(whole, how):
    """Also where a bias of ln_structured has a mask from which nothing is pruned yet."""
    first, folder = whole(*of(*how))
    second = run(folder, *of(*how))
    assert all(row.reused for row in second.rounds)
    assert numbers(first.folder) == numbers(second.folder)
    assert table(first.folder / "layers.csv") == table(second.folder / "layers.csv")
    for name in ("model.safetensors", "masks.safetensors"):
        assert load_file(first.folder / name).keys() == load_file(second.folder / name).keys()
        assert same(load_file(first.folder / name), load_file(second.folder / name))


@pytest.mark.parametrize(
    ("how", "batch"),
    [
        (("lottery_ticket", 0.2), 3),
        (("lottery_ticket", 0.2), 12),
        (("ln_structured", 0.5), 8),
        (("ln_structured", 0.05), 5),
        (("ln_structured", 0.05), 12),
    ],
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, whole, how, batch):
    """Five batches a stage: dense, round 1, round 2."""
    expected, _ = whole(*of(*how))
    with broken_off(batch):
        run(tmp_path, *of(*how))
    result = run(tmp_path, *of(*how))
    assert [row.reused for row in result.rounds] == [batch >= 5, batch >= 10, False]
    assert numbers(result.folder) == numbers(expected.folder)
    assert table(result.folder / "layers.csv") == table(expected.folder / "layers.csv")
    assert same(result.model.state_dict(), expected.model.state_dict())


# Test data


def test_training_never_sees_test_data_and_nothing_is_chosen_by_it(tmp_path, monkeypatch, spy):
    data, events = [], []
    load, evaluate, fit = Bench.load_data, loop.evaluate, phase.fit

    def load_data(self):
        load(self)
        data.append(self.data)

    def noted_evaluate(model, split, *args, **how):
        events.append("test" if split is data[-1].test else "other")
        return evaluate(model, split, *args, **how)

    def noted_fit(*args, **how):
        events.append("begin")
        yield from fit(*args, **how)
        events.append("end")

    monkeypatch.setattr(Bench, "load_data", load_data)
    monkeypatch.setattr(loop, "evaluate", noted_evaluate)
    monkeypatch.setattr(benches, "evaluate", noted_evaluate)
    monkeypatch.setattr(phase, "fit", noted_fit)
    run(tmp_path, "schedule.rounds=2")
    assert len(spy.splits) == 6
    for split in spy.splits:
        assert split is data[0].train or split is data[0].validation
        assert split.inputs.data_ptr() != data[0].test.inputs.data_ptr()
    assert events == ["begin", "other", "end", "test"] * 3  # once a round, when its training is over


# From Python


def test_from_python(tmp_path):
    few = overrides(tmp_path, "schedule.rounds=1")
    result = prunelab.run(prunelab.compose("strategy=global", "amount=0.3", *few), tmp_path / "mine")
    assert result.folder == tmp_path / "mine"
    assert [row.round for row in result.rounds] == [0, 1]
    assert 0 <= result.rounds[-1].test_accuracy <= 1
    assert isinstance(result.model, LeNet)
    assert set(result.model.state_dict()) == set(LeNet().state_dict())
    rounds, model, folder = result
    assert (rounds, model, folder, result.problems) == (result.rounds, result.model, result.folder, [])
    assert (folder / "summary.json").is_file()


def test_no_training_at_all(tmp_path):
    result = run(tmp_path, "train.epochs=0", "finetune.epochs=0", "schedule.rounds=2")
    assert [row.epochs for row in result.rounds] == [0, 0, 0]
    assert [row.train_loss for row in result.rounds] == [None] * 3
    weights = initial()
    kept = result.model.fc1.weight != 0
    assert torch.equal(result.model.fc1.weight, weights["fc1.weight"] * kept)


def test_a_loss_that_diverges_stops_the_run(tmp_path):
    with pytest.raises(DivergedError, match=r"round 0, step \d+ .*learning rate 1e\+30"):
        run(tmp_path, "optimizer=sgd", "optimizer.lr=1e30")
    (summary,) = tmp_path.glob("outputs/*/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "failed"


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Linear(784, width)
        self.drop = nn.Dropout(0.2)
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, 10)

    def forward(self, x):
        return self.last(self.norm(self.drop(self.first(x.flatten(1)))))
"""


def test_a_model_of_yours_with_buffers_and_dropout(tmp_path, monkeypatch):
    (tmp_path / "net_of_test.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    chosen = ("model._target_=net_of_test.Net", "+model.width=12", "trusted=[net_of_test]")
    model = (*chosen, "rewind=2it", "schedule.rounds=2")
    first = run(tmp_path, *model)
    assert first.model.last.weight.shape == (10, 12)
    again = run(tmp_path, *model, "reuse=false")
    assert numbers(first.folder) == numbers(again.folder)
    assert same(first.model.state_dict(), again.model.state_dict())
