"""Smallest magnitudes, tensor by tensor."""

from __future__ import annotations

from torch.nn.utils import prune

from prunelab import criteria
from prunelab.criteria import Scores
from prunelab.masks import Parameters
from prunelab.strategies import count, unpruned


def l1(parameters: Parameters, amount: float, *, scores: Scores | None = None) -> None:
    """Prunes, in each tensor, the `amount` of its unpruned weights with the smallest scores.

    Args:
        amount: fraction in [0, 1) of each tensor's unpruned weights; round(amount · n) go, never the last one.
        scores: one tensor ≥ 0 a parameter, of its shape; default: magnitude.

    Source: Han et al. 2015, "Learning both weights and connections", arXiv 1506.02626; `prune.l1_unstructured`.
    """
    scores = criteria.magnitude(parameters) if scores is None else scores
    for (module, name), score in zip(parameters, scores, strict=True):
        (rank,) = criteria.ranks([score.to(criteria.original(module, name).device)])
        goes = count(amount, unpruned(module, name))
        prune.l1_unstructured(module, name, amount=goes, importance_scores=rank)
