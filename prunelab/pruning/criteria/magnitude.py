"""The absolute value of a weight."""

from torch import Tensor

from prunelab.pruning.criteria.base import Evidence


def magnitude(evidence: Evidence) -> list[Tensor]:
    """Score a weight by |w|.

    Use it first: it needs no data, costs nothing, and with enough fine-tuning it is hard to beat.

    Source: Han et al. 2015, "Learning both weights and connections", arXiv 1506.02626.
    """
    return [value.abs() for value in evidence.values]
