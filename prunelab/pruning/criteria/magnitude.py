"""The size of a weight."""

from __future__ import annotations

from torch import Tensor

from prunelab.pruning.criteria.base import Evidence


def magnitude(evidence: Evidence) -> list[Tensor]:
    """|w|. Source: Han et al. 2015, "Learning both weights and connections", arXiv 1506.02626."""
    return [weight.detach().abs() for weight in evidence.weights]
