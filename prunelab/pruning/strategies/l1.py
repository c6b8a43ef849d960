"""Smallest magnitudes, tensor by tensor or row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.base import Scores
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies.base import check_choice, check_matrix, count, counts, unpruned


def l1(parameters: Parameters, amount: float, *, scores: Scores | None = None, per: str = "tensor") -> None:
    """Prunes, in each tensor or in each of its rows, the `amount` of the unpruned weights with the smallest scores.

    Args:
        amount: fraction in [0, 1) of the n unpruned weights of each tensor or row; round(amount · n) go, never the last
            one.
        scores: one tensor ≥ 0 a parameter, of its shape; default: magnitude.
        per: `tensor`, or `row`: each index of dimension 0 is a ranking of its own (Wanda's comparison group, an output
            of a Linear layer; Sun et al. 2024, §3, arXiv 2306.11695).

    Raises:
        ConfigError: for another `per`, or rows of a tensor that has one dimension.

    Source: Han et al. 2015, "Learning both weights and connections", arXiv 1506.02626; `prune.l1_unstructured`.
    """
    check_choice("strategy.per", per, ("tensor", "row"))
    scores = criteria.magnitudes(parameters) if scores is None else scores
    for (module, name), score in zip(parameters, scores, strict=True):
        if per == "tensor":
            prune_smallest(module, name, score, count(amount, unpruned(module, name)))
            continue
        check_matrix("strategy.per", per, module, name)
        mask = criteria.mask(module, name)
        prune.custom_from_mask(module, name, _kept_of_rows(score.to(mask.device), mask.bool(), amount))


def prune_smallest(module: nn.Module, name: str, score: Tensor, goes: int) -> None:
    """Prunes, of one tensor's unpruned weights, the `goes` with the smallest scores; of equals, the first."""
    (rank,) = criteria.ranks([score.to(criteria.original(module, name).device)])
    prune.l1_unstructured(module, name, amount=goes, importance_scores=rank)


def _kept_of_rows(score: Tensor, alive: Tensor, amount: float) -> Tensor:
    """True for what stays in each row, and for what is gone already; of the tensor's shape."""
    (rank,) = criteria.ranks([score])
    living = alive.flatten(1)  # [rows, weights of a row]
    order = rank.flatten(1).masked_fill(~living, torch.inf).argsort(1)  # the living first; equal are only the dead
    place = order.argsort(1)
    return (place >= counts(amount, living.sum(1))[:, None]).view(alive.shape)
