"""The plan: what each round will leave, computed from counts."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from prunelab.compaction import macs_target
from prunelab.errors import ConfigError
from prunelab.experiment.bench import Bench
from prunelab.experiment.checks import explained
from prunelab.pruning.criteria.magnitude import magnitude
from prunelab.pruning.rules import Group
from prunelab.pruning.schedules import Round
from prunelab.pruning.units import Count
from prunelab.records import PlannedRound
from prunelab.runtime.seeding import seeded


def plan(bench: Bench, rounds: Sequence[Round]) -> list[PlannedRound]:
    """Return what each round leaves: exact if it follows from counts, an estimate if it depends on scores.

    Raises:
        ConfigError: for an amount that does not fit, or a target that cannot be reached.
    """
    if any(round.macs is not None for round in rounds):
        return _by_macs(bench, rounds)
    size = bench.masks.counts()[1]
    forecasts = (
        [_LayerForecast(bench)] if bench.layers is not None else [_Forecast(bench, g) for g in bench.pruner.groups]
    )
    rest = size - sum(forecast.size for forecast in forecasts)  # tensors that no rule matches
    planned = []
    for number, round in enumerate(rounds, 1):
        for amount in round.amounts:
            for forecast in forecasts:
                forecast.prune(amount)
        known = all(forecast.left is not None for forecast in forecasts)
        left = rest + sum(f.left or 0 for f in forecasts) if known else None
        sparsity = None if left is None else (size - left) / size
        exact = known and all(forecast.exact for forecast in forecasts)
        planned.append(PlannedRound(number, round.amount, sparsity, left, exact))
    return planned


class _Forecast:
    """How many weights of a group of tensors are left, by counting units.

    Attributes:
        size: number of weights of the group, including biases that are pruned with them.
        left: how many of them are left; None if even their number depends on the scores.
        exact: whether `left` is exact.
    """

    def __init__(self, bench: Bench, group: Group) -> None:
        self.group, granularity = group, group.rule.granularity
        self.counts = [granularity.count(item) for item in group.items]
        self.together: int | None = None  # units that are left in all tensors, where only their sum is known
        self.sizes: list[int] = []
        self.exact, self.equal = True, True
        for item, count in zip(group.items, self.counts, strict=True):
            followers = sum(f.mask.numel() for f in bench.masks.of(granularity.followers(item)))
            self.sizes.append(item.parameter.numel() + followers)
            self.equal &= granularity.weights_per_unit(item) is not None
            self.equal &= self.sizes[-1] * prod(self.counts[0].units) == self.sizes[0] * prod(count.units)
            self.exact &= granularity.weights_per_unit(item) is not None
        self.size = sum(self.sizes)
        self.left: int | None = self.size

    def prune(self, amount: float | None) -> None:
        """Count what a pruning by this amount leaves."""
        chosen = self.group.check_amount(amount)
        if self.left is None:
            return
        if self.group.rule.method is not None:
            self.exact, self.left = False, None if chosen is None else self.left - round(chosen * self.left)
            return
        counts = self.counts if self.together is None else _with_sum(self.counts, self.together)
        units = self.group.rule.allocation.left(counts, chosen)
        if units is None:
            self.exact, self.left = False, None
        elif isinstance(units, int):
            self.together, all_units = units, sum(prod(count.units) for count in self.counts)
            self.exact &= self.equal
            self.left = round(self.size * units / all_units)
        else:
            self.counts = [replace(count, alive=left) for count, left in zip(self.counts, units, strict=True)]
            parts = zip(self.sizes, self.counts, strict=True)
            self.left = round(sum(size * count.alive / prod(count.units) for size, count in parts))


class _LayerForecast:
    """How many weights are left when whole layers are removed."""

    def __init__(self, bench: Bench) -> None:
        assert bench.layers is not None
        self.layers, self.weights = bench.layers, bench.layers.weights()
        self.there, self.size = len(self.weights), sum(self.weights)
        self.left: int | None = self.size
        self.exact = len(set(self.weights)) == 1

    def prune(self, amount: float | None) -> None:
        """Count what the removal of layers leaves."""
        gone = self.layers.number(amount, self.there)
        if self.layers.threshold is not None:
            self.exact, self.left = False, None
            return
        self.there -= gone
        self.left = round(self.size * self.there / len(self.weights))


def _with_sum(counts: Sequence[Count], total: int) -> list[Count]:
    """Return counts with a given sum and at least one unit in each tensor, for an allocation over all tensors."""
    ones = [replace(count, alive=min(count.alive, 1)) for count in counts]
    return [replace(ones[0], alive=total - sum(count.alive for count in ones[1:])), *ones[1:]]


def _by_macs(bench: Bench, rounds: Sequence[Round]) -> list[PlannedRound]:
    """Return the plan by multiply-adds, without amounts, which depend on the weights.

    Raises ConfigError if even the largest amount leaves more multiply-adds than the target.
    """
    macs, example = bench.spec.macs, bench.pruner.example
    if example is None:
        raise ConfigError(f"schedule.macs={macs}: must know the shape of an example; give your data function a `shape`")
    with explained(bench, "strategy"), seeded(bench.spec.seed, "rehearsal"), bench.pruner.undone():
        if bench.layers is None:
            _prune_by_magnitude(bench, macs_target.MOST)
        else:
            bench.layers.remove(macs_target.MOST, lambda: 0.0)
            bench.masks.apply()
        least = macs_target.share(bench.model, example, bench.spec.finish.round_to)
    assert macs is not None
    if least > macs:
        raise ConfigError(
            f"schedule.macs={macs}: the smallest network that this strategy leaves, compacted, has {least:.2g} of the "
            "multiply-adds" + ("; strategy=channel removes whole channels" if least == 1 else "")
        )
    return [PlannedRound(n, None, None, None, False, round.macs) for n, round in enumerate(rounds, 1)]


def _prune_by_magnitude(bench: Bench, amount: float) -> None:
    chosen = bench.pruner.criterion
    bench.pruner.criterion = magnitude
    try:
        bench.pruner.prune(amount)
    finally:
        bench.pruner.criterion = chosen


def target_sparsity(bench: Bench) -> float | None:
    """Return the sparsity of the prunable tensors at which the whole model reaches `schedule.compression`.

    Raises ConfigError if too many parameters cannot be pruned.
    """
    target = bench.spec.compression
    if target is None:
        return None
    _, prunable = bench.masks.counts()
    whole = sum(parameter.numel() for parameter in bench.model.parameters())
    sparsity = whole * (1 - 1 / target) / prunable
    if sparsity >= 1:
        most = whole / max(whole - prunable, 1)
        raise ConfigError(
            f"schedule.compression={target:g}: {whole - prunable:,} of {whole:,} parameters cannot be pruned; "
            f"must be less than {most:.4g}"
        )
    return sparsity
