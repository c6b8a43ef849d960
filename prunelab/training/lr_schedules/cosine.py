"""Cosine decay of the learning rate, with an optional warm-up."""

import math

from prunelab.training.lr_schedules.fractions import rising


def cosine(
    progress: float, *, warmup: float | str = 0.0, iterations: int | None = None, per_epoch: int | None = None
) -> float:
    """Return (1 + cos(π · progress)) / 2, which falls from 1 to 0.

    Args:
        progress: iterations done ÷ iterations in total, in [0, 1).
        warmup: fraction of training, in [0, 1), or epochs such as `2ep`, or iterations such as `500it`, in which the
            rate rises linearly from 0.
        iterations, per_epoch: length of training and of an epoch in iterations, which prunelab gives.

    Raises:
        ConfigError: if `warmup` is outside its range.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5 without restarts.
    """
    return rising(progress, warmup, iterations, per_epoch) * (1 + math.cos(math.pi * progress)) / 2
