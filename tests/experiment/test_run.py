"""The story end to end on a slice of MNIST: what each round starts from, ends with, and never looks at."""

from __future__ import annotations

import functools
import importlib
import json
import sys
from dataclasses import replace

import pytest
import torch
from conftest import broken_off, numbers, overrides, run, table
from safetensors.torch import load_file

import prunelab
from prunelab.experiment import phase
from prunelab.experiment.bench import Bench, snapshot
from prunelab.models.lenet import LeNet
from prunelab.runtime.seeding import derive
from prunelab.training import loop
from prunelab.training.loop import DivergedError

PRUNABLE = {"conv1.weight": 54, "conv2.weight": 864, "fc1.weight": 48_000, "fc2.weight": 10_080, "fc3.weight": 840}
TOTAL = sum(PRUNABLE.values())


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
        assert set(kept) <= set(PRUNABLE)
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


# How much goes

UNTRAINED = ("train.epochs=0", "finetune.epochs=0")


def layer_counts(result) -> list[dict[str, int]]:
    """Nonzeros by tensor, of each round."""
    rows = table(result.folder / "layers.csv")
    return [
        {row["tensor"]: int(row["nonzero"]) for row in rows if row["round"] == str(number)}
        for number in range(len(result.rounds))
    ]


@pytest.mark.parametrize(("strategy", "amount"), [("l1", 0.37), ("random", 0.2), ("custom", 0.37)])
def test_local_strategies_are_exact_to_one_weight(tmp_path, strategy, amount):
    more = (f"strategy={strategy}", "schedule=iterative", f"amount={amount}", "schedule.rounds=3", *UNTRAINED)
    expected = dict(PRUNABLE)
    for number, found in enumerate(layer_counts(run(tmp_path, *more))):
        if number:
            expected = {name: left - round(amount * left) for name, left in expected.items()}
        assert found == expected


@pytest.mark.parametrize(("strategy", "amount"), [("global", 0.37), ("lottery_ticket", 0.2)])
def test_global_strategies_are_exact_to_one_weight(tmp_path, strategy, amount):
    result = run(tmp_path, f"strategy={strategy}", f"amount={amount}", "schedule.rounds=3", *UNTRAINED)
    left = TOTAL
    for row, found in zip(result.rounds, layer_counts(result), strict=True):
        if row.round:
            left -= round(amount * left)
        assert sum(found.values()) == left
        assert row.sparsity == pytest.approx(1 - left / TOTAL, abs=1e-12)
        assert row.nonzero == left + 236


def test_custom_by_default_takes_every_second_weight(tmp_path):
    result = run(tmp_path, "strategy=custom")
    assert layer_counts(result)[1] == {name: size // 2 for name, size in PRUNABLE.items()}
    for name in PRUNABLE:
        flat = result.model.state_dict()[name].flatten()
        assert (flat[::2] == 0).all()
        assert (flat[1::2] != 0).all()


@pytest.mark.parametrize("schedule", ["linear", "cubic", "geometric"])
def test_schedules_end_at_their_sparsity(tmp_path, schedule):
    result = run(tmp_path, f"schedule={schedule}", "schedule.sparsity=0.9", "schedule.rounds=2", *UNTRAINED)
    assert abs(sum(layer_counts(result)[-1].values()) - 0.1 * TOTAL) <= 2  # a rounding each round


def test_ln_structured_prunes_whole_channels_with_their_biases(tmp_path):
    result = run(tmp_path, "strategy=ln_structured", "amount=0.5", "schedule.rounds=2")
    for name, channels in {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}.items():
        layer = result.model.get_submodule(name)
        dead = (layer.weight.flatten(1) == 0).all(1)
        left = channels - round(0.5 * channels)
        left -= round(0.5 * left)
        assert int((~dead).sum()) == left
        assert (layer.weight[~dead] != 0).all()
        assert (layer.bias[dead] == 0).all()
        assert (layer.bias[~dead] != 0).all()
    assert (result.model.fc3.weight != 0).all()


@pytest.mark.parametrize(("strategy", "optimizer"), [("l1", "adam"), ("ln_structured", "sgd")])
def test_pruned_weights_are_exactly_zero_after_fine_tuning(tmp_path, spy, strategy, optimizer):
    more = (f"strategy={strategy}", f"optimizer={optimizer}", "optimizer.weight_decay=0.01", "schedule.rounds=2")
    result = run(tmp_path, *more)
    weights = result.model.state_dict()
    _, kept = spy.start(2)
    assert kept
    for name, mask in kept.items():
        assert (weights[name][~mask] == 0).all()
        assert (weights[name][mask] != 0).all()


def test_amount_zero_is_the_dense_baseline(tmp_path):
    result = run(tmp_path, "amount=0", "schedule.rounds=2", *UNTRAINED)
    for row in result.rounds:
        assert row.sparsity == 0
        assert row.nonzero == row.parameters == 60_074
        assert row.compression_ratio == 1
    assert layer_counts(result) == [PRUNABLE] * 3


def test_include_and_exclude(tmp_path):
    chosen = ("prune.include=[fc*.weight,fc3.bias]", "prune.exclude=[fc2.*]")
    result = run(tmp_path, *chosen, "schedule.rounds=1", *UNTRAINED)
    assert [set(found) for found in layer_counts(result)] == [{"fc1.weight", "fc3.weight", "fc3.bias"}] * 2
    assert (result.model.fc2.weight != 0).all()


def test_a_small_mask_is_printed_with_the_milliseconds(tmp_path, capsys):
    run(tmp_path, "strategy=custom", "prune.include=[fc3.bias]")
    out = capsys.readouterr().out
    assert " ms" in out
    assert "fc3.bias mask = [" in out


def test_a_layer_keeps_its_last_weight_and_a_warning_says_so(tmp_path, caplog):
    result = run(tmp_path, "strategy=l1", "amount=0.99", "schedule.rounds=2")
    assert layer_counts(result)[2]["conv1.weight"] == 1
    assert any("conv1.weight" in record.getMessage() and "last" in record.getMessage() for record in caplog.records)


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

    def noted_evaluate(model, split, *callbacks):
        events.append("test" if split is data[-1].test else "other")
        return evaluate(model, split, *callbacks)

    def noted_fit(*args, **how):
        events.append("begin")
        yield from fit(*args, **how)
        events.append("end")

    monkeypatch.setattr(Bench, "load_data", load_data)
    monkeypatch.setattr(loop, "evaluate", noted_evaluate)
    monkeypatch.setattr(phase, "evaluate", noted_evaluate)
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
    result = run(tmp_path, *UNTRAINED, "schedule.rounds=2")
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


MINE = """
import torch
from torch import nn
from torch.nn.utils import prune

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Linear(784, width)
        self.drop = nn.Dropout(0.2)
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, 10)

    def forward(self, x):
        return self.last(self.norm(self.drop(self.first(x.flatten(1)))))

def score(weight):
    return torch.arange(weight.numel(), dtype=torch.float32).view(weight.shape)

class Front(prune.BasePruningMethod):
    PRUNING_TYPE = "global"

    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[:4] = 0
        return mask

def broken(weight):
    raise RuntimeError("this is broken")

class Broken(Front):
    def compute_mask(self, t, default_mask):
        raise RuntimeError("this is broken")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_of_test.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield "mine_of_test"
    sys.modules.pop("mine_of_test", None)


def test_a_scoring_function_of_yours(tmp_path, mine):
    more = ("strategy=custom", f"strategy.method={mine}.score", f"trusted=[{mine}]", "amount=0.25")
    result = run(tmp_path, *more)
    for name, size in PRUNABLE.items():
        flat = result.model.state_dict()[name].flatten()
        assert (flat[: round(size / 4)] == 0).all()
        assert (flat[round(size / 4) :] != 0).all()


def test_a_pruning_method_of_yours(tmp_path, mine):
    more = ("strategy=custom", f"strategy.method={mine}.Front", f"trusted=[{mine}]", "amount=null")
    result = run(tmp_path, *more)
    for name in PRUNABLE:
        flat = result.model.state_dict()[name].flatten()
        assert (flat == 0).nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert result.rounds[1].amount is None


@pytest.mark.parametrize(("name", "amount"), [("broken", "0.5"), ("Broken", "null")])
def test_a_method_of_yours_that_fails_is_found_before_training(tmp_path, mine, monkeypatch, name, amount):
    monkeypatch.setattr(phase, "fit", lambda *args, **how: pytest.fail("trained"))
    more = ("strategy=custom", f"strategy.method={mine}.{name}", f"trusted=[{mine}]", f"amount={amount}")
    with pytest.raises(prunelab.ConfigError, match=rf"strategy.method={mine}.{name}: cannot .*this is broken"):
        run(tmp_path, *more)


def test_a_model_of_yours_with_buffers_and_dropout(tmp_path, mine):
    model = (f"model._target_={mine}.Net", "+model.width=12", f"trusted=[{mine}]", "rewind=2it", "schedule.rounds=2")
    first = run(tmp_path, *model)
    assert first.model.last.weight.shape == (10, 12)
    again = run(tmp_path, *model, "reuse=false")
    assert numbers(first.folder) == numbers(again.folder)
    assert same(first.model.state_dict(), again.model.state_dict())
