"""The plan: what each round will leave, computed from counts; and checks before training of what cannot work."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from prunelab.compaction import macs_target
from prunelab.errors import ConfigError
from prunelab.experiment.bench import Bench
from prunelab.pruning.criteria.base import Criterion
from prunelab.pruning.criteria.magnitude import magnitude
from prunelab.pruning.rules import Group
from prunelab.pruning.schedules import Round
from prunelab.pruning.units import Count
from prunelab.records import PlannedRound
from prunelab.runtime.seeding import seeded


def plan(bench: Bench, rounds: Sequence[Round]) -> list[PlannedRound]:
    """Return what each round leaves; exact where counts decide, an estimate where scores do.

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
        sparsity = None if left is None else 1 - left / size
        exact = known and all(forecast.exact for forecast in forecasts)
        planned.append(PlannedRound(number, round.amount, sparsity, left, exact))
    return planned


class _Forecast:
    """How many weights of a group of tensors are left, by counting units.

    Attributes:
        size: all weights of the group, with the biases that go along.
        left: how many are left; None where the scores decide even their number.
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
    """Counts with a given sum, one unit in each tensor at least: what an allocation over all tensors needs to know."""
    ones = [replace(count, alive=min(count.alive, 1)) for count in counts]
    return [replace(ones[0], alive=total - sum(count.alive for count in ones[1:])), *ones[1:]]


def _by_macs(bench: Bench, rounds: Sequence[Round]) -> list[PlannedRound]:
    """The plan by multiply-adds; the amounts are only known when the weights are.

    Raises:
        ConfigError: if even the largest amount leaves more than the last round may have.
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
        least = macs_target.share(bench.model, example)
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

    Raises:
        ConfigError: if the parameters that cannot be pruned are too many for it; says what can be reached.
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


def check_steps(bench: Bench, rounds: Sequence[Round]) -> None:
    """Raise ConfigError if a round that prunes while it trains is too short for its prunings."""
    iterations = bench.spec.finetune.epochs * bench.batches
    for round in rounds:
        needed = round.every * len(round.amounts)
        if needed > iterations:
            raise ConfigError(
                f"schedule.prunings={len(round.amounts)}, schedule.every={round.every}: need {needed} iterations of "
                f"fine-tuning; finetune.epochs={bench.spec.finetune.epochs} are {iterations}"
            )


def try_method(bench: Bench, rounds: Sequence[Round]) -> None:
    """Prune the untrained network once where a `prune.BasePruningMethod` decides, and undo it.

    Raises:
        ConfigError: if the method cannot prune this model.
    """
    if all(group.rule.method is None for group in bench.pruner.groups):
        return
    with explained(bench, "strategy"), bench.pruner.undone():
        bench.pruner.prune(
            rounds[0].amounts[0], seed=0, data=lambda examples: bench.sample(1, min(examples, 2))
        )


def try_criterion(bench: Bench) -> None:
    """Score the untrained network once, by two examples.

    Raises:
        ConfigError: if the criterion cannot score this model.
    """
    chosen = bench.pruner.criterion
    if bench.layers is not None or chosen is magnitude:
        return
    trained = bench.dense_epochs or bench.spec.finetune.epochs
    with explained(bench, "criterion"), seeded(bench.spec.seed, "rehearsal"):
        if isinstance(chosen, Criterion) and trained:
            chosen.load({item.name: torch.zeros_like(item.parameter) for item in bench.pruner.items})
        for score in bench.pruner.score(lambda examples: bench.sample(1, min(examples, 2))):
            if not bool(torch.isfinite(score).all() and (score >= 0).all()):
                raise ConfigError("its scores must be finite and ≥ 0")
    if isinstance(chosen, Criterion):
        chosen.load({})


@torch.no_grad()
def check_output(bench: Bench) -> None:
    """Run the model on two examples.

    Raises:
        ConfigError: unless it takes the data and returns logits.
    """
    inputs, _ = bench.data.train.batch(slice(0, 2))
    classes = int(bench.data.train.labels.max()) + 1
    name = str(bench.spec.model) if bench.live_model is None else f"model={type(bench.live_model).__name__}"
    try:
        output = bench.model.eval()(inputs)
    except ConfigError:
        raise
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{name}: cannot take the data's {list(bench.example.shape)}: {why}") from error
    if isinstance(output, Tensor):
        fits = output.dim() == 2 and len(output) == len(inputs) and output.shape[1] >= classes
        if fits and output.dtype in (torch.float32, torch.float64):
            return
        output = f"{output.dtype} {list(output.shape)}".removeprefix("torch.")
    else:
        output = type(output).__name__
    wanted = f"must return logits, float32 [{len(inputs)}, {classes}]"
    raise ConfigError(f"{name}: returns {output} for {len(inputs)} examples; {wanted}")


@contextmanager
def explained(bench: Bench, part: str) -> Iterator[None]:
    """Turn whatever a user's method or criterion raises into one line; its warnings wait for the real round."""
    method = bench.spec.strategy.method
    key = str(bench.spec.criterion) if part == "criterion" else f"strategy={bench.spec.strategy.name}"
    key = f"strategy.method={method.name}" if method is not None else key
    what = "cannot score this model" if part == "criterion" else "cannot prune this model"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ConfigError as error:
        if "=" in str(error).partition(":")[0]:
            raise  # it names its key
        raise ConfigError(f"{key}: {what}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{key}: {what}: {' '.join(str(error).split())}") from error
