"""Pruning in the middle of training, every so many iterations."""

from __future__ import annotations

from collections.abc import Callable

from prunelab.training.loop import Routine


class Gradual(Routine):
    """Prunes once after every `every` iterations, as often as there are steps.

    Args:
        prune: `prune(step)`, with the step counted from 1.
        every: iterations between two prunings.
        prunings: how many.

    Source: Zhu & Gupta 2017, "To prune, or not to prune", arXiv 1710.01878.
    """

    def __init__(self, prune: Callable[[int], None], every: int, prunings: int) -> None:
        self.prune, self.every, self.prunings = prune, every, prunings

    def after_step(self, iteration: int) -> None:
        """Prunes if it is time; the masks are in every checkpoint, so that there is nothing else to keep."""
        step, rest = divmod(iteration, self.every)
        if rest == 0 and step <= self.prunings:
            self.prune(step)
