"""Convert points of training, given in epochs, iterations or as fractions, to fractions; the factor of a warm-up."""

import re

from prunelab.errors import ConfigError


def fraction(key: str, point: float | str, iterations: int | None, per_epoch: int | None) -> float:
    """Return a point, such as 0.5, `40ep` (epochs) or `25000it` (iterations), as a fraction of training.

    Args:
        key: of the config, for the message of the ConfigError.
        iterations, per_epoch: lengths of training and of an epoch in iterations; None or 0: not known yet.
    """
    if isinstance(point, str):
        if (found := re.fullmatch(r"(\d+)(it|ep)", point)) is None:
            raise ConfigError(f"{key}={point}: must be a fraction of training, iterations (500it) or epochs (2ep)")
        each = 1 if found[2] == "it" else per_epoch or 0
        return int(found[1]) * each / iterations if iterations else 0.0
    return point


def before_end(key: str, point: float | str, iterations: int | None, per_epoch: int | None) -> float:
    """Return a point as a `fraction` of training; raise ConfigError for a number outside [0, 1)."""
    part = fraction(key, point, iterations, per_epoch)
    if not (0 <= part < 1 or isinstance(point, str)):
        raise ConfigError(f"{key}={point}: must be a fraction of training, in [0, 1)")
    return part


def rising(progress: float, warmup: float | str, iterations: int | None, per_epoch: int | None) -> float:
    """Return a factor that rises linearly from 0 to 1 during the warm-up, and is 1 after it."""
    part = before_end("lr_schedule.warmup", warmup, iterations, per_epoch)
    return min(1.0, progress / part) if part else 1.0
