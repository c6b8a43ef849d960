"""How much, each round: one formula a schedule, each returning the `amount` of every round.

`amount` is the fraction of the weights *still there* that a round removes; a schedule that aims at a final sparsity
s converts its target s_t by amount_t = (s_t − s_{t−1}) / (1 − s_{t−1}).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from omegaconf import DictConfig

from prunelab.config import build as building
from prunelab.config import schema as configs
from prunelab.config.schema import ConfigError

Amounts = list[float | None]


class Round(NamedTuple):
    """How much goes in a round: at once before fine-tuning, or, with `every`, in steps during it.

    Attributes:
        amounts: of each step, one after the other.
        every: iterations between the steps; 0: a single one, before fine-tuning.
        macs: instead of an amount, which share of the dense network's multiply-adds the compact one is to have.
    """

    amounts: tuple[float | None, ...]
    every: int = 0
    macs: float | None = None

    @property
    def amount(self) -> float | None:
        """The fraction of what was there before the round that goes in all its steps; None: the strategy decides."""
        if len(self.amounts) == 1 or None in self.amounts:
            return self.amounts[0]
        return 1 - prod(1 - amount for amount in self.amounts if amount is not None)


def one_shot(amount: float | None, rounds: int = 1) -> Amounts:
    """Everything in one round."""
    if rounds != 1:
        raise ConfigError(f"schedule.rounds={rounds}: schedule=one_shot has 1 round; schedule=iterative has several")
    return [amount]


def iterative(amount: float | None, rounds: int) -> Amounts:
    """The same amount each round: amount 0.2 leaves 0.8^t after round t (Frankle & Carbin 2019, arXiv 1803.03635)."""
    return [amount] * rounds


def ramp(amount: float, rounds: int, step: float = 0.1) -> Amounts:
    """A larger amount each round: amount, amount + step, amount + 2·step …

    Raises:
        ConfigError: if the amount leaves [0, 1) in one of the rounds.
    """
    if amount is None:
        raise ConfigError("amount=null: schedule=ramp needs a fraction in [0, 1)")
    amounts: Amounts = []
    for t in range(rounds):
        this = round(amount + step * t, 12)  # 0.1 + 2 · 0.1 is meant to be 0.3
        if not 0 <= this < 1:
            raise ConfigError(f"schedule.step={step}: round {t + 1} would remove {this:g}; must stay in [0, 1)")
        amounts.append(this)
    return amounts


def until(amount: float, rounds: int, tolerance: float | None = None) -> Amounts:
    """The same amount each round, until a round loses more than `tolerance` of the dense network's validation accuracy.

    That round is the last to be computed, and the one before it is the result.

    Args:
        rounds: at most so many.
        tolerance: in [0, 1], such as 0.005 for half a point.
    """
    if tolerance is None:
        raise ConfigError(f"tolerance=null: schedule=until needs {configs.allowed('tolerance')}")
    return iterative(amount, rounds)


def linear(rounds: int, sparsity: float) -> Amounts:
    """Equal steps of sparsity: s_t = s · t/T."""
    return _towards([sparsity * t / rounds for t in range(1, rounds + 1)])


def cubic(rounds: int, sparsity: float) -> Amounts:
    """Much at first, little at the end: s_t = s · (1 − (1 − t/T)³).

    Source: Zhu & Gupta 2017, "To prune, or not to prune", eq. 1 with s_i = 0, arXiv 1710.01878.
    """
    return _towards([sparsity * (1 - (1 - t / rounds) ** 3) for t in range(1, rounds + 1)])


def geometric(rounds: int, sparsity: float) -> Amounts:
    """The same amount each round, chosen to end at `sparsity`: s_t = 1 − (1 − s)^(t/T)."""
    return _towards([1 - (1 - sparsity) ** (t / rounds) for t in range(1, rounds + 1)])


def gradual(sparsity: float, every: int, prunings: int) -> list[Round]:
    """During training: one round whose fine-tuning is broken off every so many iterations, to prune to s_t, cubic in t.

    Args:
        every: iterations between two prunings, Δt.
        prunings: how many, n; the first after `every` iterations, the last after n · Δt.

    Source: Zhu & Gupta 2017, "To prune, or not to prune", eq. 1 with s_i = 0, arXiv 1710.01878.
    """
    return [Round(tuple(cubic(prunings, sparsity)), every)]


def rounds(config: DictConfig, sparsity: float | None = None) -> list[Round]:
    """Every round that the config asks for.

    Args:
        sparsity: what `schedule.compression` comes to in this model; not needed to check the config alone.

    Raises:
        ConfigError: if a schedule lacks the `amount` or the `schedule.sparsity` it needs, or is given the other.
    """
    target = building.locate(config.schedule.get("_target_"), "schedule._target_", config.trusted)
    takes = inspect.signature(target).parameters
    if config.tolerance is not None and "tolerance" not in takes:
        raise ConfigError(f"tolerance={config.tolerance}: only schedule=until takes one")
    goal = _goal(config, target.__name__, "amount" in takes)
    if goal is not None and sparsity is None:
        by_goal = {"schedule.compression": 0.5, "schedule.macs": 1 - (config.schedule.get("macs") or 0.5)}
        sparsity = by_goal.get(goal, config.schedule.sparsity)
    given = {"amount": config.amount, "tolerance": config.tolerance}
    offered = {} if sparsity is None else {"sparsity": sparsity}
    planned = building.bind(config, "schedule", given=given, offered=offered)()
    found = [item if isinstance(item, Round) else Round((item,)) for item in planned]
    return _by_macs(found) if goal == "schedule.macs" else found


def _by_macs(rounds: list[Round]) -> list[Round]:
    """The same path, of multiply-adds instead of weights."""
    left, found = 1.0, []
    for round in rounds:
        if round.every or round.amount is None:
            raise ConfigError("schedule.macs: schedule=gradual prunes while it trains; use linear, cubic or geometric")
        left *= 1 - round.amount
        found.append(Round((None,), macs=left))
    return found


def _goal(config: DictConfig, name: str, by_amount: bool) -> str | None:
    """The key that says where the schedule is to end; None if it goes by amount.

    Raises:
        ConfigError: unless just one of `amount`, `schedule.sparsity`, `schedule.compression` and `schedule.macs` is
            given, and fits.
    """
    goals = {
        key: value for key in ("sparsity", "compression", "macs") if (value := config.schedule.get(key)) is not None
    }
    if by_amount and goals:
        (key, value), *_ = goals.items()
        others = "linear, cubic and geometric" if key == "macs" else "linear, cubic, geometric and gradual"
        raise ConfigError(
            f"schedule.{key}={value}: schedule={name} goes by amount={config.amount}; use one of the two: "
            f"schedule={others} end at a {key}"
        )
    if by_amount:
        return None
    if config.amount is not None:
        key = next(iter(goals), "sparsity")
        raise ConfigError(
            f"amount={config.amount}: schedule={name} goes by schedule.{key}={config.schedule.get(key)}; "
            "use one of the two: schedule=iterative, ramp or one_shot go by amount"
        )
    if not goals:
        raise ConfigError(f"schedule.sparsity=null: schedule={name} needs {configs.allowed('schedule.sparsity')}")
    if len(goals) > 1:
        given = " and ".join(f"schedule.{key}={value}" for key, value in goals.items())
        raise ConfigError(f"{given}: use one of the two")
    return f"schedule.{next(iter(goals))}"


def _towards(sparsities: Sequence[float]) -> Amounts:
    before = [0.0, *sparsities]
    return [(s - p) / (1 - p) for p, s in zip(before, sparsities, strict=False)]
