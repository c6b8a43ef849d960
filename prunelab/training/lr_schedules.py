"""The learning rate over a training: one formula a schedule, from progress to a factor of `optimizer.lr`.

A function of the iteration alone, so there is nothing to save, and a rewound learning rate is the same formula read
from an earlier point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from prunelab.config.schema import ConfigError


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def cosine(progress: float, *, warmup: float = 0.0) -> float:
    """Down to 0 along half a cosine: (1 + cos(π·p)) / 2.

    Args:
        progress: iterations done ÷ all, in [0, 1).
        warmup: the first fraction of training, in [0, 1), in which the rate rises linearly from 0.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5 without restarts.
    """
    return _rising(progress, warmup) * (1 + math.cos(math.pi * progress)) / 2


def steps(
    progress: float, *, milestones: Sequence[float] = (0.5, 0.75), gamma: float = 0.1, warmup: float = 0.0
) -> float:
    """Times `gamma` at each milestone passed.

    Args:
        progress: iterations done ÷ all, in [0, 1).
        milestones: fractions of training in [0, 1].
        gamma: factor > 0.
        warmup: the first fraction of training, in [0, 1), in which the rate rises linearly from 0.

    Source: He et al. 2016, arXiv 1512.03385, §4.2; with warm-up, Frankle & Carbin 2019, arXiv 1803.03635, §4.
    """
    if not gamma > 0:
        raise ConfigError(f"lr_schedule.gamma={gamma}: must be a number > 0")
    if not all(0 <= milestone <= 1 for milestone in milestones):
        raise ConfigError(f"lr_schedule.milestones={list(milestones)}: must be fractions of training, in [0, 1]")
    return _rising(progress, warmup) * gamma ** sum(progress >= milestone for milestone in milestones)


def _rising(progress: float, warmup: float) -> float:
    if not 0 <= warmup < 1:
        raise ConfigError(f"lr_schedule.warmup={warmup}: must be a fraction of training, in [0, 1)")
    return min(1.0, progress / warmup) if warmup else 1.0
