"""The rounds of an experiment: what its schedule aims at, and how much each round prunes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prunelab.config.component import Component
from prunelab.config.schema import allowed
from prunelab.config.spec import Spec
from prunelab.errors import ConfigError
from prunelab.pruning.schedules import Round

SOMEWHERE = 0.5  # any sparsity, for checks before the model is known


def rounds(spec: Spec, sparsity: float | None = None) -> list[Round]:
    """Return every round that an experiment asks for.

    Args:
        sparsity: replaces `schedule.sparsity` where the model decides it: with `schedule.compression`, or if a part of
            the weights is pruned already; of the weights that are left.

    Raises:
        ConfigError: where the schedule's own options do not go together.
    """
    schedule, options = spec.schedule, spec.schedule.options
    if sparsity is not None and "sparsity" in options:
        schedule = replace(schedule, options={**options, "sparsity": sparsity})
    return planned(schedule, spec.amount, spec.tolerance, spec.macs, sparsity)


def planned(
    schedule: Component, amount: float | None, tolerance: float | None, macs: float | None, sparsity: float | None
) -> list[Round]:
    """Return the rounds of a schedule; `rounds` says what the arguments are."""
    if macs is not None:
        sparsity = 1 - macs
    goal = SOMEWHERE if sparsity is None else sparsity
    made = schedule(amount=amount, tolerance=tolerance, sparsity=goal)
    found = [item if isinstance(item, Round) else Round((item,)) for item in made]
    return found if macs is None else _by_macs(found)


def check_goal(schedule: Mapping[str, Any], name: str, amount: float | None, by_amount: bool) -> None:
    """Raise ConfigError unless just one of `amount`, `schedule.sparsity`, `.compression`, `.macs` is given, and fits.

    Args:
        by_amount: whether the schedule takes an amount rather than a final sparsity.
    """
    goals = {key: schedule[key] for key in ("sparsity", "compression", "macs") if schedule.get(key) is not None}
    given = [f"schedule.{key}={value}" for key, value in goals.items()]
    key, shown = next(iter(goals), "sparsity"), "null" if amount is None else amount
    first = given[0] if given else "schedule.sparsity=null"
    if by_amount and goals:
        others = "linear, cubic and geometric" if key == "macs" else "linear, cubic, geometric and gradual"
        raise ConfigError(
            f"{first}: schedule={name} goes by amount={shown}; use one of the two: schedule={others} end at a {key}"
        )
    if not by_amount and amount is not None:
        raise ConfigError(
            f"amount={amount}: schedule={name} goes by {first}; "
            "use one of the two: schedule=iterative, ramp or one_shot go by amount"
        )
    if not by_amount and not goals:
        raise ConfigError(f"{first}: schedule={name} needs {allowed('schedule.sparsity')}")
    if len(goals) > 1:
        raise ConfigError(f"{' and '.join(given)}: use one of the two")


def _by_macs(rounds: list[Round]) -> list[Round]:
    """Return rounds that leave the same fractions, but of multiply-adds instead of weights."""
    left, found = 1.0, []
    for round in rounds:
        if round.every or round.amount is None:
            raise ConfigError("schedule.macs: schedule=gradual prunes while it trains; use linear, cubic or geometric")
        left *= 1 - round.amount
        found.append(Round((None,), macs=left))
    return found
