"""Smallest magnitudes, in one ranking over all tensors."""

from __future__ import annotations

from torch.nn.utils import prune

from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.base import Scores
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies.base import count, unpruned


def global_unstructured(parameters: Parameters, amount: float, *, scores: Scores | None = None) -> None:
    """Prunes the `amount` of all unpruned weights with the smallest scores, wherever they are.

    No tensor loses its last weight: its best one is ranked above all others, so that the count stays exact.

    Args:
        amount: fraction in [0, 1) of the unpruned weights of all tensors together; round(amount · n) go.
        scores: one tensor ≥ 0 a parameter, of its shape; default: magnitude.

    Source: Frankle & Carbin 2019, app. on global pruning, arXiv 1803.03635; `prune.global_unstructured`.
    """
    scores = criteria.magnitudes(parameters) if scores is None else scores
    ranked = criteria.ranks([s.to(criteria.original(*pair).device) for pair, s in zip(parameters, scores, strict=True)])
    total = sum(rank.numel() for rank in ranked)
    for (module, name), rank in zip(parameters, ranked, strict=True):
        best = (rank * criteria.mask(module, name)).argmax()
        rank.view(-1)[best] += total
    left = sum(unpruned(module, name) for module, name in parameters)
    goes = min(count(amount, left), left - len(parameters))
    prune.global_unstructured(
        parameters,
        pruning_method=prune.L1Unstructured,
        importance_scores=dict(zip(parameters, ranked, strict=True)),
        amount=max(goes, 0),
    )
