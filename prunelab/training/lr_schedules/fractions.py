"""Points of training, as fractions of it: given as such, in epochs or in iterations."""

import re

from prunelab.errors import ConfigError


def fraction(key: str, point: float | str, iterations: int | None, per_epoch: int | None) -> float:
    """Return a point as a fraction of training.

    Args:
        key: of the config, for messages.
        point: a fraction in [0, 1]; or epochs such as `40ep`, or iterations such as `25000it`.
        iterations: of the whole training; None or 0 where they are not known yet.
        per_epoch: likewise, of an epoch.

    Raises:
        ConfigError: if it is none of these.
    """
    if isinstance(point, str):
        if (found := re.fullmatch(r"(\d+)(it|ep)", point)) is None:
            raise ConfigError(f"{key}={point}: must be a fraction of training, iterations (500it) or epochs (2ep)")
        each = 1 if found[2] == "it" else per_epoch or 0
        return int(found[1]) * each / iterations if iterations else 0.0
    return point
