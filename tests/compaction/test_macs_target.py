"""schedule.macs: rounds end where the compact network has few enough multiply-adds."""

import pytest
import torch
from conftest import composed, numbers, undisturbed_and_resumed
from torch import nn
from toy_networks import zero_channels

import prunelab
from prunelab.compaction import macs_target
from prunelab.config.resolve import resolve
from prunelab.config.rounds import rounds
from prunelab.errors import ConfigError
from prunelab.pruning.pruner import Pruner

X = torch.zeros(1, 4)


def two_layers():
    """4 · 8 + 8 · 2 = 48 multiply-adds; 6 for each of 8 neurons."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def pruner(model):
    return Pruner(model, granularity="channel", allocation="local", include=["0.weight"])


def test_a_share_is_counted_on_the_compact_network():
    model = two_layers()
    zero_channels(model, "0", [0, 3, 5])
    assert macs_target.share(model, X) == 30 / 48


@pytest.mark.filterwarnings("ignore:0.weight is down to its last channel")
@pytest.mark.parametrize(("macs", "left"), [(0.5, 4), (0.49, 3), (0.51, 4), (0.99, 7), (1 / 8, 1), (0.1, 1)])
def test_the_least_amount_that_is_enough(macs, left):
    """round(a · 8) = 8 − left, first where a · 8 reaches the half before it (halves go to the even neighbour)."""
    model = two_layers()
    before, ours = {name: value.clone() for name, value in model.state_dict().items()}, pruner(model)
    found = macs_target.amount(model, ours.masks, X, macs, ours.prune)
    assert all(bool(item.mask.all()) for item in ours.masks)  # as before
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found == next(k for k in range(256) if round(k / 32) >= 8 - left) / 256 if macs > 0.1 else 255 / 256


def test_it_goes_on_from_the_masks_there_are():
    model = two_layers()
    ours = pruner(model)
    ours.prune(0.25)
    before = {item.name: item.mask.clone() for item in ours.masks}
    found = macs_target.amount(model, ours.masks, X, 0.5, ours.prune)
    assert found == next(k for k in range(256) if round(6 * k / 256) == 2) / 256  # of the 6 that are left
    assert all(torch.equal(item.mask, before[item.name]) for item in ours.masks)
    assert not ours.masks.lost()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.8, 0.6]),
        ("geometric", [0.6**0.5, 0.6]),
        ("cubic", [1 - 0.4 * 7 / 8, 0.6]),
    ],
)
def test_a_schedule_is_a_path_of_multiply_adds(schedule, expected):
    choices = (f"schedule={schedule}", "schedule.rounds=2", "schedule.macs=0.6", "strategy=channel")
    found = rounds(resolve(prunelab.compose(*choices)))
    assert [round.macs for round in found] == pytest.approx(expected)
    assert [round.amounts for round in found] == [(None,), (None,)]


RUN = ("strategy=channel", "schedule=linear", "schedule.rounds=2", "schedule.macs=0.4", "model=lenet_300_100")


def run(folder, *more):
    return prunelab.run(composed(folder, *RUN, *more))


def test_a_run_ends_at_its_target(tmp_path):
    """784·a + a·b + b·10 multiply-adds, of 784·300 + 300·100 + 100·10 = 266,200."""
    result = run(tmp_path)
    a, b = result.model.fc1.out_features, result.model.fc2.out_features
    count = lambda a, b: 784 * a + a * b + 10 * b  # noqa: E731
    assert count(a, b) <= 0.4 * 266_200 < count(a + 3, b + 1)  # one step of 1/256 more would be too much
    amounts = [row.amount for row in result.rounds[1:]]
    assert all(0 < amount < 1 for amount in amounts)
    assert a == 300 - sum(removed(300, amounts))
    assert b == 100 - sum(removed(100, amounts))


def removed(units, amounts):
    for amount in amounts:
        goes = round(amount * units)
        units -= goes
        yield goes


@pytest.mark.slow
def test_a_run_that_was_broken_off_ends_the_same(tmp_path):
    whole, again = undisturbed_and_resumed(run, tmp_path, 7)
    assert numbers(again.folder) == numbers(whole.folder)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("compact=false",), r"schedule\.macs=0\.4: counts the compact network; needs compact=true"),
        (
            ("schedule.macs=0.001",),
            r"schedule\.macs=0\.001: the smallest network .* has 0\.0",
        ),
        (("schedule.macs=1.5",), r"schedule\.macs=1\.5: must be a fraction in \(0, 1\)"),
        (("schedule.sparsity=0.5",), r"schedule\.sparsity=0\.5 and schedule\.macs=0\.4: use one of the two"),
        (("schedule=iterative",), r"schedule\.macs=0\.4: schedule=iterative goes by amount=0\.2"),
        (("schedule=gradual",), r"schedule\.macs: schedule=gradual prunes while it trains"),
    ],
)
def test_what_cannot_be_is_refused(more, said, tmp_path):
    choices = [key for key in RUN if not (more[0].startswith("schedule=") and key in RUN[1:3])]
    with pytest.raises(ConfigError, match=said):
        prunelab.run(composed(tmp_path, *choices, *more))
