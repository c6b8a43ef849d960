"""The point that weights are rewound to, as the key `rewind` spells it."""

from __future__ import annotations

import re

from prunelab.config.schema import allowed
from prunelab.config.spec import Rewind
from prunelab.errors import ConfigError


def rewind_point(value: object, epochs: int) -> Rewind | None:
    """Return the point that `rewind` names; None for no rewinding.

    Args:
        value: null, 0, `2ep` or `500it`.
        epochs: of dense training.

    Raises:
        ConfigError: if it is none of these, or if it lies beyond dense training.
    """
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)(ep|it)?", str(value))
    if not match or (match[2] is None and int(match[1]) != 0):
        raise ConfigError(f"rewind={value}: must be {allowed('rewind')}")
    count, unit = int(match[1]), match[2] or "it"
    if unit == "ep" and count > epochs:
        raise ConfigError(
            f"rewind={value}: dense training has train.epochs={epochs} epochs; must be at most {epochs}ep"
        )
    return Rewind(count, unit)
