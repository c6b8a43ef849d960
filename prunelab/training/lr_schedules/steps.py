"""A learning rate that falls in steps, with an optional warm-up."""

from collections.abc import Sequence

from prunelab.errors import ConfigError
from prunelab.training.lr_schedules.fractions import fraction, rising


def steps(
    progress: float,
    *,
    milestones: Sequence[float | str] = (0.5, 0.75),
    gamma: float = 0.1,
    warmup: float | str = 0.0,
    iterations: int | None = None,
    per_epoch: int | None = None,
) -> float:
    """Return `gamma` to the power of the number of milestones passed.

    Args:
        progress: iterations done ÷ iterations in total, in [0, 1).
        milestones: fractions of training, in [0, 1]; or epochs such as `40ep`, or iterations such as `25000it`.
        gamma: factor > 0.
        warmup: likewise, in [0, 1): until then the rate rises linearly from 0.
        iterations, per_epoch: length of training and of an epoch in iterations, which prunelab gives.

    Raises:
        ConfigError: if an argument is outside its range.

    Source: He et al. 2016, arXiv 1512.03385, §4.2; with warm-up, Frankle & Carbin 2019, arXiv 1803.03635, §4.
    """
    if not gamma > 0:
        raise ConfigError(f"lr_schedule.gamma={gamma}: must be a number > 0")
    if not all(isinstance(milestone, str) or 0 <= milestone <= 1 for milestone in milestones):
        raise ConfigError(f"lr_schedule.milestones={list(milestones)}: must be fractions of training, in [0, 1]")
    points = [fraction("lr_schedule.milestones", milestone, iterations, per_epoch) for milestone in milestones]
    return rising(progress, warmup, iterations, per_epoch) * gamma ** sum(progress >= point for point in points)
