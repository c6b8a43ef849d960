"""A learning rate that falls linearly to 0, with an optional warm-up."""

from prunelab.training.lr_schedules.fractions import before_end, rising


def linear(
    progress: float,
    *,
    start: float | str = 0.0,
    warmup: float | str = 0.0,
    iterations: int | None = None,
    per_epoch: int | None = None,
) -> float:
    """Return 1 up to `start`, then a factor that falls linearly to 0 at the end of training.

    Args:
        progress: iterations done ÷ iterations in total, in [0, 1).
        start: fraction of training, in [0, 1), or epochs such as `2ep`, or iterations such as `500it`.
        warmup: likewise: until then the rate rises linearly from 0.
        iterations, per_epoch: length of training and of an epoch in iterations, which prunelab gives.

    Raises:
        ConfigError: if `start` or `warmup` is outside its range.
    """
    point = before_end("lr_schedule.start", start, iterations, per_epoch)
    falling = min(1.0, (1 - progress) / (1 - point)) if point < 1 else 1.0
    return rising(progress, warmup, iterations, per_epoch) * falling
