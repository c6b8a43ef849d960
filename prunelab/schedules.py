"""How much, each round: one formula a schedule, each returning the `amount` of every round.

`amount` is the fraction of the weights *still there* that a round removes; a schedule that aims at a final sparsity
s converts its target s_t by amount_t = (s_t − s_{t−1}) / (1 − s_{t−1}).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from omegaconf import DictConfig

from prunelab import building
from prunelab import config as configs
from prunelab.config import ConfigError

Amounts = list[float | None]


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


def amounts(config: DictConfig) -> Amounts:
    """The `amount` of every round that the config asks for; None where the strategy alone decides.

    Raises:
        ConfigError: if a schedule lacks the `amount` or the `schedule.sparsity` it needs, or is given the other.
    """
    target = building.locate(config.schedule.get("_target_"), "schedule._target_", config.trusted)
    name = target.__name__
    takes = inspect.signature(target).parameters
    if "amount" in takes:
        if config.schedule.get("sparsity") is not None:
            raise ConfigError(
                f"schedule.sparsity={config.schedule.sparsity}: schedule={name} goes by amount={config.amount}; "
                "use one of the two: schedule=linear, cubic or geometric end at a sparsity"
            )
        return building.bind(config, "schedule", config.amount)(config.amount)
    if config.amount is not None:
        raise ConfigError(
            f"amount={config.amount}: schedule={name} goes by schedule.sparsity={config.schedule.get('sparsity')}; "
            "use one of the two: schedule=iterative, ramp or one_shot go by amount"
        )
    if config.schedule.get("sparsity") is None:
        raise ConfigError(f"schedule.sparsity=null: schedule={name} needs {configs.allowed('schedule.sparsity')}")
    return building.bind(config, "schedule")()


def _towards(sparsities: Sequence[float]) -> Amounts:
    before = [0.0, *sparsities]
    return [(s - p) / (1 - p) for p, s in zip(before, sparsities, strict=False)]
