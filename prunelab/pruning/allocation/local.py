"""The same fraction of every tensor."""

from collections.abc import Sequence

from torch import Tensor

from prunelab.pruning.units import Allocation, Count, Units, number, smallest


class Local(Allocation):
    """Prune the same fraction of the units of each tensor: round(amount · n) of n, never a tensor's last one.

    Use it if every layer must shrink alike, such as whole channels, or as the simplest baseline.

    Source: Han et al. 2015, "Learning both weights and connections", arXiv 1506.02626; `prune.l1_unstructured`.
    """

    def pruned(self, units: Sequence[Units], amount: float | None) -> list[Tensor]:
        """Return the units with the smallest scores, tensor by tensor."""
        return [smallest([u.scores], [u.alive], number(amount, int(u.alive.sum())))[0] for u in units]

    def left(self, counts: Sequence[Count], amount: float | None) -> list[int]:
        """Return the number of units that each tensor keeps."""
        return [count.alive - number(amount, count.alive) for count in counts]
