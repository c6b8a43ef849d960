"""Pruning during training, every so many iterations."""

from prunelab.pruning.schedules.base import Round
from prunelab.pruning.schedules.cubic import cubic


def gradual(sparsity: float, every: int, prunings: int) -> list[Round]:
    """Return one round that prunes during its fine-tuning, with sparsities that follow `cubic`.

    Use it if one long training is cheaper than many rounds, and for the highest sparsity.

    Args:
        sparsity: the final one, fraction in (0, 1).
        every: iterations between two prunings, Δt ≥ 1.
        prunings: how many, n ≥ 1; the first after `every` iterations, the last after n · Δt.

    Source: Zhu & Gupta 2017, "To prune, or not to prune", eq. 1 with s_i = 0, arXiv 1710.01878.
    """
    return [Round(tuple(cubic(prunings, sparsity)), every)]
