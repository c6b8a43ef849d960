"""What a key of the config is, and the keys of the parts that are chosen by name."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

# A range as `Key.allowed` writes it: "≥ 1", "> 0", "≥ 1, at most 1000", "[0, 1)", "[0, 2**63)".
RANGE = re.compile(
    r"(?P<open>[\[(]|[≥>] )(?P<low>-?[\d.]+)(, (at most )?(?P<high>[\d.]+)(\*\*(?P<power>\d+))?(?P<close>[\])]?))?"
)

# Functions of torch.nn.init, under the names that papers use.
INITIALISATIONS = ("glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "orthogonal")


@dataclass(frozen=True)
class Key:
    """What a key of the config means and what it may be.

    Attributes:
        name: dotted, such as `train.epochs`.
        meaning: one line.
        allowed: the values, in words. A range in it (see `RANGE`) and "whole number" are what `fits` checks.
        default: of the key; None where the chosen YAML file sets it.
        choices: the only values (of the elements, for a list), beside null, as regular expressions; empty: any.

    A length that may be in epochs may be in iterations too: `500it`.
    """

    name: str
    meaning: str
    allowed: str
    default: object = None
    choices: tuple[str, ...] = ()

    def fits(self, value: object) -> bool:
        """Return whether a value is one of the choices and in the range; null, whether it is the default or allowed."""
        if value is None:
            return self.default is None or "null" in self.allowed
        items = value if isinstance(value, (list, tuple)) else [value]
        if self.choices and not all(re.fullmatch("|".join(self.choices), str(item)) for item in items):
            return False
        found = RANGE.search(self.allowed)
        if "whole number of epochs" in self.allowed and isinstance(value, str):
            return re.fullmatch(r"[1-9]\d*it", value) is not None
        if found is None:
            return True
        kinds = (int,) if "whole number" in self.allowed else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            return False
        low, high = float(found["low"]), float(found["high"] or math.inf) ** int(found["power"] or 1)
        above = value > low if found["open"] in ("(", "> ") else value >= low
        return above and (value < high if found["close"] == ")" else value <= high)


def key(default: Any, meaning: str, allowed: str = "", choices: tuple[str, ...] = ()) -> Any:
    """Return a dataclass field that carries a `Key`. Null is allowed where the field's type is Optional.

    Args:
        default: a value, or a function without arguments that makes it.
        allowed: the values, in words; default: null and the choices, or true or false.
    """
    allowed = allowed or ("true or false" if isinstance(default, bool) else ", ".join(("null", *choices)))
    made = default() if callable(default) else default
    metadata = {"key": Key("", meaning, allowed, made, choices)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


# Keys of the chosen parts. The other keys of a part are options of its target, which checks them itself.
PART_KEYS = (
    Key(
        "model.checkpoint",
        "trained weights that replace dense training",
        "null or a file: .safetensors, or a state dict by torch.save; or the folder of a run, an export or a stage",
    ),
    Key(
        "criterion.iterations",
        "number of steps of a round; each computes the scores anew and removes the same fraction of what is left",
        "a whole number ≥ 1, at most 1000",
        default=1,
    ),
    Key("criterion.examples", "training examples that the criterion sees", "a whole number of examples ≥ 1"),
    Key("schedule.rounds", "rounds; each prunes, rewinds and fine-tunes", "a whole number ≥ 1, at most 10000"),
    Key(
        "schedule.sparsity",
        "final sparsity: zeros ÷ prunable weights",
        "a fraction in (0, 1), reached in the last round",
    ),
    Key(
        "schedule.compression",
        "instead of schedule.sparsity",
        "a number > 1: all parameters ÷ nonzero ones, in the last round",
    ),
    Key(
        "schedule.macs",
        "instead, with compact=true",
        "a fraction in (0, 1): multiply-adds of the compact network ÷ dense ones",
    ),
    Key("schedule.every", "schedule=gradual: iterations between prunings", "a whole number of iterations ≥ 1"),
    Key("schedule.prunings", "schedule=gradual: number of prunings", "a whole number ≥ 1, at most 10000"),
    Key(
        "schedule.step",
        "schedule=ramp: added to the amount each round",
        "a fraction in (-1, 1), added to amount each round",
    ),
    Key(
        "model.init",
        "how weights are drawn, biases being 0; null: as the layers do",
        "null, " + ", ".join(INITIALISATIONS),
        choices=INITIALISATIONS,
    ),
    Key(
        "data.validation",
        "share of the training examples held out for validation; null: as the data set does",
        "null or a fraction in (0, 1)",
    ),
    Key(
        "data.label_noise",
        "share of the training labels replaced by another class, drawn by the seed",
        "null or a fraction in (0, 1]",
    ),
    Key(
        "data.scale",
        "unit: pixels in [0, 1]; null: standardised, by mean and standard deviation of the training images",
        "null or unit",
        choices=("unit",),
    ),
    Key(
        "data.shift",
        "training images move by up to so many pixels along each axis, anew in each step",
        "null or a whole number of pixels ≥ 1",
    ),
    Key(
        "data.flip",
        "half of the training images are mirrored left to right, anew in each step",
        "null, true or false",
        choices=("True", "False"),
    ),
    Key("optimizer.lr", "learning rate", "a number > 0"),
    Key(
        "optimizer.decay",
        "weights: weight decay spares biases and norms, all tensors of one dimension; null: it does not",
        "null or weights",
        choices=("weights",),
    ),
    Key("optimizer.weight_decay", "weight decay", "a number ≥ 0"),
    Key("optimizer.momentum", "momentum", "a number in [0, 1)"),
    Key("data.limit", "examples of each split, at most; null: all", "null or a whole number of examples ≥ 10"),
)
ANY_CHOICE = (
    *("data.validation", "data.label_noise", "data.scale", "data.shift", "data.flip", "model.checkpoint", "model.init"),
    *("optimizer.decay", "criterion.iterations", "schedule.compression", "schedule.macs"),
)


def shared(part: str) -> dict[str, Any]:
    """Return the keys that any choice of a group has, with their defaults."""
    there = [item for item in PART_KEYS if item.name in ANY_CHOICE and item.name.startswith(f"{part}.")]
    return {item.name.rpartition(".")[2]: item.default for item in there}
