"""A threshold on the scores."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prunelab.errors import check_number
from prunelab.pruning.units import Allocation, Count, Units, smallest


class Threshold(Allocation):
    """Prune every unit whose score is at most a threshold; each tensor keeps its best unit.

    With `criterion=magnitude` the score of a weight is |w|, and that of a channel its root mean square (n = 2).

    Use it after a regularizer that has made weights small or exactly zero.

    Args:
        threshold: ≥ 0, compared in the scores' own precision; 0 prunes exact zeros, as an L0 penalty leaves them.

    Raises:
        ConfigError: for a negative threshold.

    Source: Han et al. 2015, "Learning both weights and connections", section 3.1, arXiv 1506.02626.
    """

    sets_amount = True

    def __init__(self, threshold: float = 0.01) -> None:
        check_number("allocation.threshold", threshold, "a number ≥ 0", lambda x: x >= 0)
        self.threshold = threshold

    def pruned(self, units: Sequence[Units], amount: float | None) -> list[Tensor]:
        """Return the units with scores of at most the threshold."""
        return [self._pruned(u) for u in units]

    def left(self, counts: Sequence[Count], amount: float | None) -> None:
        """Return None: the scores decide how much is pruned."""
        return

    def _pruned(self, units: Units) -> Tensor:
        limit = float(torch.tensor(self.threshold, dtype=units.dtype))  # a float32 0.3 is larger than Python's 0.3
        (all_but_best,) = smallest([units.scores], [units.alive], max(int(units.alive.sum()) - 1, 0))
        return all_but_best & (units.scores <= limit)
