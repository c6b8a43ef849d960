"""Cosine decay of the learning rate, with an optional warm-up."""

import math

from prunelab.training.lr_schedules.warmup import rising


def cosine(progress: float, *, warmup: float = 0.0) -> float:
    """Return (1 + cos(π · progress)) / 2, which falls from 1 to 0.

    Args:
        progress: iterations done ÷ iterations in total, in [0, 1).
        warmup: fraction of training, in [0, 1), in which the rate rises linearly from 0.

    Raises:
        ConfigError: if `warmup` is outside its range.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5 without restarts.
    """
    return rising(progress, warmup) * (1 + math.cos(math.pi * progress)) / 2
