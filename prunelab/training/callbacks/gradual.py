"""Gradual pruning: prune every so many iterations while the network is trained."""

from collections.abc import Callable

from prunelab.training.callbacks.base import Callback


class Gradual(Callback):
    """Prune after every `every` iterations, `prunings` times in total.

    Use it by `schedule=gradual`, with `schedule.every` and `schedule.prunings`.

    Args:
        prune: called as `prune(step)`, with step = 1, 2, … `prunings`.
        every: iterations between two prunings, ≥ 1.
        prunings: number of prunings, ≥ 1.

    Source: Zhu & Gupta 2017, "To prune, or not to prune", arXiv 1710.01878.
    """

    def __init__(self, prune: Callable[[int], None], every: int, prunings: int) -> None:
        self.prune, self.every, self.prunings = prune, every, prunings

    def after_step(self, iteration: int) -> None:
        """Prune after every `every` iterations. All state is in the masks."""
        step, rest = divmod(iteration, self.every)
        if rest == 0 and step <= self.prunings:
            self.prune(step)
