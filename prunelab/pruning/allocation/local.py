"""The same fraction of every tensor."""

from collections.abc import Sequence

from prunelab.pruning.units import Allocation, Count, number


class Local(Allocation):
    """Prune the same fraction of the units of each tensor: round(amount · n) of n, never a tensor's last one.

    Use it if every layer must shrink alike, such as whole channels, or as the simplest baseline.

    Source: Han et al. 2015, "Learning both weights and connections", arXiv 1506.02626; `prune.l1_unstructured`.
    """

    def left(self, counts: Sequence[Count], amount: float | None) -> list[int]:
        """Return the number of units that each tensor keeps."""
        return [count.alive - number(amount, count.alive) for count in counts]
