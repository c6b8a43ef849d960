"""One ranking of the units of all tensors."""

from collections.abc import Sequence

from torch import Tensor

from prunelab.pruning.units import Allocation, Count, Units, number_together, smallest


class Global(Allocation):
    """Prune the units with the smallest scores, whichever tensor they are in: round(amount · n) of n.

    Every tensor keeps its best unit, and as many others are pruned in its place, so that the number stays exact.

    Use it by default: it finds by itself which layers can do with less. Scores of different layers must be
    comparable.

    Source: Frankle & Carbin 2019, "The lottery ticket hypothesis", arXiv 1803.03635; `prune.global_unstructured`.
    """

    def pruned(self, units: Sequence[Units], amount: float | None) -> list[Tensor]:
        """Return the units with the smallest scores of all."""
        living = [int(u.alive.sum()) for u in units]
        count = number_together(amount, sum(living), sum(n > 0 for n in living))
        return smallest([u.scores for u in units], [u.alive for u in units], count)

    def left(self, counts: Sequence[Count], amount: float | None) -> int:
        """Return the number of units that all tensors keep together."""
        total = sum(count.alive for count in counts)
        return total - number_together(amount, total, sum(count.alive > 0 for count in counts))
