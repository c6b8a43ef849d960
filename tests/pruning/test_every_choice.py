"""What holds for every criterion × granularity × allocation, found by discovery: exact counts, or one sentence."""

import warnings
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from prunelab.errors import ConfigError
from prunelab.pruning import allocation, criteria, granularity
from prunelab.pruning.criteria.base import Criterion
from prunelab.pruning.lookup import choices, find
from prunelab.pruning.pruner import Pruner, named_criterion

CELLS = list(product(sorted(choices(criteria)), sorted(choices(granularity)), sorted(choices(allocation))))
REFUSED = {
    *(("channel", name) for name in ("nm", "row")),
    *((name, "nm") for name in ("block", "kernel")),
}
KNOWN = {"weight", "channel", "block", "kernel", "local", "global", "row", "nm", "uniform", "erk", "lamp", "threshold"}


class Network(nn.Module):
    """A convolution, tied layers, a frozen one and a layer without a bias; some weights are equal."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3)
        self.first, self.tied = nn.Linear(24, 24), nn.Linear(24, 24)
        self.tied.weight = self.first.weight
        self.frozen, self.out = nn.Linear(24, 9), nn.Linear(9, 5, bias=False)
        self.frozen.requires_grad_(False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(8).round_().div_(8)  # ties

    def forward(self, x):
        x = torch.relu(self.conv(x)).flatten(1)
        return self.out(torch.relu(self.frozen(self.tied(torch.relu(self.first(x))))))


def data():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 2, 4, 4, generator=generator), torch.randint(5, (8,), generator=generator))]


def make(cell, **how):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Network()
    inputs, labels = data()[0]
    pruner = Pruner(model, *cell, data=data(), example=inputs, seed=3, **how)
    if isinstance(pruner.criterion, Criterion):  # one optimizer step for what is recorded in training
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.01)
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return pruner


def masks(pruner):
    return {item.name: item.kept.clone() for item in pruner.masks}


def prune(pruner, amount):
    """Prunes once; what is recorded in training is kept for the next call."""
    recorded = pruner.criterion.state() if isinstance(pruner.criterion, Criterion) else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is down to its last")
        report = pruner.prune(amount)
    if recorded:
        pruner.criterion.load(recorded)
    return report


def living(pruner, unit):
    """The units of each tensor that still have a weight, counted from the masks alone."""
    counts = []
    for item in pruner.items:
        mask = item.kept.numpy()
        if unit == "channel":
            mask = mask.reshape(len(mask), -1).any(1)
        elif unit == "kernel":
            mask = mask.reshape(*mask.shape[:2], -1).any(2)
        elif unit == "block":
            matrix = mask.reshape(len(mask), -1)
            padded = np.zeros([-(-n // 4) * 4 for n in matrix.shape], dtype=bool)
            padded[: matrix.shape[0], : matrix.shape[1]] = matrix
            mask = padded.reshape(padded.shape[0] // 4, 4, padded.shape[1] // 4, 4).any((1, 3))
        elif unit != "weight":  # a new one, whose own test holds it against something else
            mask = pruner.groups[0].rule.granularity.alive(item)
        counts.append(int(mask.sum()))
    return counts


def expected(pruner, share, amount):
    """What the allocation promises from counts alone."""
    return share.left([pruner.groups[0].rule.granularity.count(item) for item in pruner.items], amount)


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_every_cell_is_exact_or_refused(cell):
    _, unit, name = cell
    try:
        pruner, twin = make(cell), make(cell)
    except ConfigError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert "\n" not in refusal
    if {unit, name} <= KNOWN:  # a new choice may refuse others
        assert bool(refusal) == ((unit, name) in REFUSED)
    if refusal:
        return
    share = pruner.groups[0].rule.allocation
    amount = None if share.sets_amount else 0.3
    for _ in range(3):
        before, promised, weights = masks(pruner), expected(pruner, share, amount), pruner.masks.counts()[0]
        report = prune(pruner, amount)
        after, left = masks(pruner), living(pruner, unit)
        assert all(not bool((after[key] & ~before[key]).any()) for key in after)  # nothing revives
        assert all(count >= 1 for count in left)
        assert promised is None or (sum(left) if isinstance(promised, int) else left) == promised
        assert (
            report.pruned == weights - pruner.masks.counts()[0] == weights - sum(int(m.sum()) for m in after.values())
        )
        assert all(bool((item.parameter[~item.kept] == 0).all()) for item in pruner.masks)
        prune(twin, amount)
        assert all(torch.equal(mask, after[key]) for key, mask in masks(twin).items())  # deterministic
    assert unit != "weight" or report.kept == sum(left)
    assert [item.name for item in pruner.items][:3] == ["conv.weight", "first.weight", "frozen.weight"]


@pytest.mark.parametrize("name", sorted(set(choices(allocation)) - {"nm", "threshold"}))
@pytest.mark.parametrize("amount", [0.0, 0.99])
def test_nothing_goes_and_all_but_the_last_go(name, amount):
    pruner = make(("magnitude", "weight", name))
    promised = expected(pruner, pruner.groups[0].rule.allocation, amount)
    prune(pruner, amount)
    left = living(pruner, "weight")
    assert (sum(left) if isinstance(promised, int) else left) == promised
    assert all(left)
    if amount == 0:
        assert pruner.masks.sparsity() == sum(int((i.parameter == 0).sum()) for i in pruner.items) / sum(
            i.parameter.numel() for i in pruner.items
        )


@pytest.mark.parametrize("name", sorted(set(choices(allocation)) - {"nm", "threshold"}))
@pytest.mark.parametrize("amount", [None, 1.0, 1, -0.1, float("nan"), True])
def test_an_amount_out_of_range_is_refused(name, amount):
    pruner = make(("magnitude", "weight", name))
    with pytest.raises(ConfigError, match=r"^amount=\S+: must be a fraction in \[0, 1\)$"):
        pruner.prune(amount)
    assert all(bool(item.kept.all()) for item in pruner.masks)


@pytest.mark.parametrize("name", sorted(choices(allocation)))
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_scores_that_are_not_finite_are_refused(name, bad):
    pruner = make((lambda evidence: [torch.full_like(value, bad) for value in evidence.values], "weight", name))
    with pytest.raises(ValueError, match="finite and ≥ 0"):
        pruner.prune(None if pruner.groups[0].rule.allocation.sets_amount else 0.5)
    assert all(bool(item.kept.all()) for item in pruner.masks)


@pytest.mark.parametrize(("unit", "name"), sorted({cell[1:] for cell in CELLS} - REFUSED))
def test_scores_decide_and_not_the_weights(unit, name):
    """Random scores of one seed, for two networks of other weights."""
    found = []
    for scale in (1.0, -3.0):
        pruner = make(("magnitude", unit, name))
        generator = torch.Generator().manual_seed(5)
        scores = [torch.rand(item.parameter.shape, generator=generator) / 50 for item in pruner.items]
        pruner.criterion = lambda evidence, scores=scores: scores
        with torch.no_grad():
            for item in pruner.items:
                item.parameter.mul_(scale)
        prune(pruner, None if pruner.groups[0].rule.allocation.sets_amount else 0.4)
        found.append(masks(pruner))
    assert all(torch.equal(mask, found[1][key]) for key, mask in found[0].items())
    assert not all(bool(mask.all()) for mask in found[0].values())


@pytest.mark.parametrize(("unit", "name"), sorted({cell[1:] for cell in CELLS} - REFUSED))
def test_channels_last_prunes_the_same(unit, name):
    plain, last = make(("magnitude", unit, name)), make(("magnitude", unit, name))
    last.model.to(memory_format=torch.channels_last)
    amount = None if plain.groups[0].rule.allocation.sets_amount else 0.4
    prune(plain, amount)
    prune(last, amount)
    assert all(torch.equal(mask, masks(plain)[key]) for key, mask in masks(last).items())


@pytest.mark.gpu
@pytest.mark.parametrize(("unit", "name"), sorted({cell[1:] for cell in CELLS} - REFUSED))
def test_a_gpu_prunes_what_the_cpu_prunes(unit, name):
    on_cpu, on_gpu = make(("magnitude", unit, name)), make(("magnitude", unit, name))
    on_gpu.model.cuda()
    amount = None if on_cpu.groups[0].rule.allocation.sets_amount else 0.4
    for _ in range(2):
        prune(on_cpu, amount)
        prune(on_gpu, amount)
        assert all(torch.equal(mask.cpu(), masks(on_cpu)[key]) for key, mask in masks(on_gpu).items())


@pytest.mark.parametrize("axis", [criteria, granularity, allocation])
def test_a_name_that_does_not_exist_is_answered_with_those_that_do(axis):
    name = axis.__name__.rpartition(".")[2]
    first = sorted(choices(axis))[0]
    with pytest.raises(ConfigError, match=rf"{name}={first}x: must be .*{first}.*did you mean"):
        find(axis, name, f"{first}x")


def test_every_choice_of_the_axes_is_documented():
    for axis in (criteria, granularity, allocation):
        for name in choices(axis):
            assert "Source:" in (find(axis, axis.__name__, name).__doc__ or ""), name


def test_named_criteria_are_callable():
    assert all(callable(named_criterion(name)) for name in choices(criteria))
