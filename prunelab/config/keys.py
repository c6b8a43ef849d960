"""What a key of the config is, and the keys of the parts that are chosen by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Key:
    """What a key means and what it may be.

    Attributes:
        name: dotted, such as `train.epochs`.
        default: of the key; None where the chosen YAML file sets it.
        meaning: one line.
        allowed: the values, in words.
        bounds: `ge`, `gt`, `le`, `lt` of a number.
        whole: whether a number must be a whole one.
        choices: the only values (of the elements, for a list), beside null; empty: any.
    """

    name: str
    default: object
    meaning: str
    allowed: str
    bounds: Mapping[str, float]
    whole: bool = False
    choices: tuple[str, ...] = ()


def key(
    default: Any,
    meaning: str,
    allowed: str = "",
    *,
    choices: tuple[str, ...] = (),
    **bounds: float,
) -> Any:
    """Return a dataclass field that carries a `Key`. Null is allowed where the field's type is Optional.

    Args:
        default: a value, or a function without arguments that makes it.
        allowed: the values, in words; default: null and the choices.
    """
    allowed = allowed or ", ".join(("null", *choices))
    made = default() if callable(default) else default
    metadata = {"key": Key("", made, meaning, allowed, bounds, choices=choices)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _part(
    name: str, meaning: str, allowed: str, *, default: object = None, whole: bool = False, **bounds: float
) -> Key:
    return Key(name, default, meaning, allowed, bounds, whole)


# Keys of the chosen parts. The other keys of a part are options of its target, which checks them itself.
PART_KEYS = (
    _part(
        "model.checkpoint",
        "file of trained weights, in the place of dense training",
        "null or a file of weights: .safetensors, or a state dict by torch.save",
    ),
    _part(
        "criterion.iterations",
        "score and prune so many times within a round, in equal ratios",
        "a whole number ≥ 1, at most 1000",
        default=1,
        whole=True,
        ge=1,
        le=1000,
    ),
    _part(
        "criterion.examples",
        "number of training examples that the criterion sees",
        "a whole number of examples ≥ 1",
        whole=True,
        ge=1,
    ),
    _part(
        "schedule.rounds",
        "number of rounds; each prunes, rewinds and fine-tunes",
        "a whole number ≥ 1, at most 10000",
        whole=True,
        ge=1,
        le=10_000,
    ),
    _part(
        "schedule.sparsity",
        "final sparsity for linear, cubic, geometric and gradual: zeros ÷ prunable weights",
        "a fraction in (0, 1), reached in the last round",
        gt=0,
        lt=1,
    ),
    _part(
        "schedule.compression",
        "instead of schedule.sparsity: all parameters ÷ nonzero parameters",
        "a number > 1: all parameters ÷ nonzero ones, in the last round",
        gt=1,
    ),
    _part(
        "schedule.macs",
        "instead, with compact=true: multiply-adds of the compact network ÷ dense ones",
        "a fraction in (0, 1): multiply-adds of the compact network ÷ dense ones",
        gt=0,
        lt=1,
    ),
    _part(
        "schedule.every",
        "schedule=gradual: iterations between two prunings",
        "a whole number of iterations ≥ 1",
        whole=True,
        ge=1,
    ),
    _part(
        "schedule.prunings",
        "schedule=gradual: number of prunings",
        "a whole number ≥ 1, at most 10000",
        whole=True,
        ge=1,
        le=10_000,
    ),
    _part(
        "schedule.step",
        "schedule=ramp: added to the amount each round",
        "a fraction in (-1, 1), added to amount each round",
        gt=-1,
        lt=1,
    ),
    _part("optimizer.lr", "learning rate", "a number > 0", gt=0),
    _part("optimizer.weight_decay", "weight decay", "a number ≥ 0", ge=0),
    _part("optimizer.momentum", "momentum", "a number in [0, 1)", ge=0, lt=1),
    _part(
        "data.limit",
        "examples of each split, at most; null: all",
        "null or a whole number of examples ≥ 10",
        whole=True,
        ge=10,
    ),
)
ANY_CHOICE = ("model.checkpoint", "criterion.iterations", "schedule.compression", "schedule.macs")


def shared(part: str) -> dict[str, Any]:
    """Return the keys that any choice of a group has, with their defaults."""
    there = [item for item in PART_KEYS if item.name in ANY_CHOICE and item.name.startswith(f"{part}.")]
    return {item.name.rpartition(".")[2]: item.default for item in there}
