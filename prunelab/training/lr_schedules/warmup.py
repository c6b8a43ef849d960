"""The linear warm-up that learning-rate schedules share."""

from prunelab.errors import ConfigError


def rising(progress: float, warmup: float) -> float:
    """Return a factor that rises linearly from 0 to 1 during the warm-up, and is 1 after it.

    Args:
        progress: iterations done ÷ iterations in total, in [0, 1).
        warmup: fraction of training, in [0, 1).

    Raises:
        ConfigError: if `warmup` is outside its range.
    """
    if not 0 <= warmup < 1:
        raise ConfigError(f"lr_schedule.warmup={warmup}: must be a fraction of training, in [0, 1)")
    return min(1.0, progress / warmup) if warmup else 1.0
