"""The plan: what each round will leave, computed from counts."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from prunelab.compaction import macs_target
from prunelab.errors import ConfigError
from prunelab.experiment.bench import Bench
from prunelab.experiment.checks import explained
from prunelab.pruning import skipping
from prunelab.pruning.criteria.magnitude import magnitude
from prunelab.pruning.prunable import left_out
from prunelab.pruning.rules import Group
from prunelab.pruning.schedules import Round
from prunelab.pruning.units import Count
from prunelab.records import PlannedRound
from prunelab.runtime import device
from prunelab.runtime.seeding import seeded
from prunelab.text import percent

MOST_NOTES = 12
LARGE = 1_000_000  # parameters from which on several threads may help


def plan(bench: Bench, rounds: Sequence[Round]) -> list[PlannedRound]:
    """Return what each round leaves: exact if it follows from counts, an estimate if it depends on scores.

    Raises:
        ConfigError: for an amount that does not fit, or a target that cannot be reached.
    """
    if any(round.macs is not None for round in rounds):
        return _by_macs(bench, rounds)
    kept, size = bench.masks.counts()
    forecasts = (
        [_LayerForecast(bench)] if bench.layers is not None else [_Forecast(bench, g) for g in bench.pruner.groups]
    )
    rest = kept - sum(forecast.left or 0 for forecast in forecasts)  # of tensors that are not pruned further
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
        left: how many weights of the group are left, biases that are pruned with them included; None if even their
            number depends on the scores.
        exact: whether `left` is exact.
    """

    def __init__(self, bench: Bench, group: Group) -> None:
        self.group, granularity = group, group.rule.granularity
        self.counts = [granularity.count(item) for item in group.items]
        self.together: int | None = None  # units that are left in all tensors, where only their sum is known
        self.sizes: list[int] = []
        self.exact, self.equal = True, True
        self.dense: list[float] = []  # weights that are left in units that are left ÷ all weights in those
        for item, count in zip(group.items, self.counts, strict=True):
            tensors = [item, *bench.masks.of(granularity.followers(item))]
            self.sizes.append(sum(tensor.mask.numel() for tensor in tensors))
            kept = sum(int(tensor.kept.sum()) for tensor in tensors)
            self.dense.append(kept * prod(count.units) / max(self.sizes[-1] * count.alive, 1))
            self.equal &= self.sizes[-1] * prod(self.counts[0].units) == self.sizes[0] * prod(count.units)
            self.exact &= granularity.weights_per_unit(item) is not None and self.dense[-1] == 1
            self.exact &= kept == self.sizes[-1] or not group.rule.allocation.evenly
        self.alive = sum(count.alive for count in self.counts)
        self.first = self._weights()
        self.left: int | None = self.first

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
            self.together, self.exact = units, self.exact and self.equal
            self.left = round(self.first * units / max(self.alive, 1))
        else:
            self.counts = [replace(count, alive=left) for count, left in zip(self.counts, units, strict=True)]
            self.left = self._weights()

    def _weights(self) -> int:
        parts = zip(self.sizes, self.dense, self.counts, strict=True)
        return round(sum(size * dense * count.alive / prod(count.units) for size, dense, count in parts))


class _LayerForecast:
    """How many weights are left when whole layers are removed."""

    def __init__(self, bench: Bench) -> None:
        assert bench.layers is not None
        self.layers, self.weights = bench.layers, bench.layers.weights()
        self.there = sum(not isinstance(layer, skipping.Skipped) for layer in bench.layers.layers.values())
        self.left: int | None = round(sum(self.weights) * self.there / len(self.weights))
        self.exact = len(set(self.weights)) == 1

    def prune(self, amount: float | None) -> None:
        """Count what the removal of layers leaves."""
        gone = self.layers.number(amount, self.there)
        if self.layers.threshold is not None:
            self.exact, self.left = False, None
            return
        self.there -= gone
        self.left = round(sum(self.weights) * self.there / len(self.weights))


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
            prune_by_magnitude(bench, macs_target.MOST)
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


def prune_by_magnitude(bench: Bench, amount: float | None) -> None:
    """Prune by magnitude in the place of the experiment's criterion, which may need data."""
    chosen = bench.pruner.criterion
    bench.pruner.criterion = magnitude
    try:
        bench.pruner.prune(amount)
    finally:
        bench.pruner.criterion = chosen


def target_sparsity(bench: Bench) -> float | None:
    """Return the fraction of the unpruned weights of the groups that all rounds together must prune.

    Returns None where `schedule.sparsity` itself is that sparsity, or there is none. Raises ConfigError if it cannot be
    reached.
    """
    kept, prunable = bench.masks.counts()
    goal, key = bench.spec.schedule.options.get("sparsity"), "schedule.sparsity"
    if bench.spec.compression is not None:
        goal, key = _sparsity_of_compression(bench, bench.spec.compression), "schedule.compression"
    if goal is None or bench.spec.macs is not None:
        return None
    if kept == prunable:
        return None if key == "schedule.sparsity" else float(goal)
    followers = [f for g in bench.pruner.groups for item in g.items for f in g.rule.granularity.followers(item)]
    there = [item for group in bench.pruner.groups for item in group.items] + bench.masks.of(followers)
    rest = sum(int(item.kept.sum()) for item in there)
    share = (kept - (1 - goal) * prunable) / rest if rest else 1.0
    if not 0 < share < 1:
        raise ConfigError(
            f"{key}={bench.spec.compression or goal:g}: {percent(1 - kept / prunable)} of the prunable weights are "
            f"pruned already (prune.adopt_zeros=true), and {rest:,} may be pruned further"
        )
    return share


def _sparsity_of_compression(bench: Bench, target: float) -> float:
    """Return the sparsity of the prunable tensors at which the whole model reaches `schedule.compression`."""
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


def notes(bench: Bench) -> list[str]:
    """Return what the table of the plan does not show, such as weights that are pruned already, or layers left out."""
    adopted, places, said = bench.adopted, bench.stored.places, list[str]()
    large = sum(parameter.numel() for parameter in bench.model.parameters()) >= LARGE
    if large and bench.device.type == "cpu" and bench.spec.threads is None:
        threads = device.threads(None)
        said.append(f"threads={threads}: a network of this size may train faster with more, where cores are idle")
    if len(places) > 1:
        said.append(f"model.checkpoint: weights that fit are under {', '.join(places)}; the first are taken")
    if adopted is not None:
        for name, (zeros, size) in adopted.zeros.items():
            said.append(f"{name}: {percent(zeros / size)} zero already, kept as pruned")
        said += [f"{name}: all zero, which is no pruning; not kept as pruned" for name in adopted.empty]
    groups, selection = bench.pruner.groups, bench.spec.selection
    chosen = [(item.module, item.key) for item in bench.pruner.items]
    if selection.include is None:
        for name, why in left_out(bench.model, chosen, bench.pruner.output, selection.exclude).items():
            said.append(f"{name}: not pruned: {why}")
    ruled = {item.name for group in groups for item in group.items}
    said += [f"{name}: not pruned: no rule matches it" for name in bench.tensors if name not in ruled]
    more = len(said) - MOST_NOTES
    return said if more <= 0 else [*said[:MOST_NOTES], f"and {more} more tensors like these"]
