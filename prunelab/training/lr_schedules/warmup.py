"""The linear warm-up that learning-rate schedules share."""

from prunelab.errors import ConfigError
from prunelab.training.lr_schedules.fractions import fraction


def rising(progress: float, warmup: float | str, iterations: int | None = None, per_epoch: int | None = None) -> float:
    """Return a factor that rises linearly from 0 to 1 during the warm-up, and is 1 after it.

    Args:
        progress: iterations done ÷ iterations in total, in [0, 1).
        warmup: fraction of training, in [0, 1), or epochs such as `2ep`, or iterations such as `500it`.
        iterations, per_epoch: length of training and of an epoch in iterations; None: not known.

    Raises:
        ConfigError: if `warmup` is outside its range.
    """
    part = fraction("lr_schedule.warmup", warmup, iterations, per_epoch)
    if not (0 <= part < 1 or isinstance(warmup, str)):
        raise ConfigError(f"lr_schedule.warmup={warmup}: must be a fraction of training, in [0, 1)")
    return min(1.0, progress / part) if part else 1.0
