"""Layer-adaptive magnitudes: one ranking over all tensors that finds each layer's sparsity by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.base import Scores
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies.global_unstructured import global_unstructured


def lamp(parameters: Parameters, amount: float, *, scores: Scores | None = None) -> None:
    """Prunes, over all tensors, the `amount` of the unpruned weights with the smallest LAMP scores.

    A weight's LAMP score is its square ÷ the sum of the squares of all unpruned weights of its tensor that are at least
    as large (of equals: those that stand behind it). Each tensor's best weight has score 1 and stays.

    Args:
        amount: fraction in [0, 1) of the unpruned weights of all tensors together; round(amount · n) go.
        scores: one tensor ≥ 0 a parameter, of its shape, in the place of magnitude.

    Source: Lee J. et al. 2021, "Layer-adaptive sparsity for the magnitude-based pruning", eq. 1, arXiv 2010.07611.
    """
    scores = criteria.magnitudes(parameters) if scores is None else scores
    pairs = zip(parameters, scores, strict=True)
    global_unstructured(parameters, amount, scores=[_adapted(score, criteria.mask(*pair)) for pair, score in pairs])


def _adapted(score: Tensor, mask: Tensor) -> Tensor:
    """The LAMP scores of one tensor, of its shape; 0 where it is pruned, and where its score is 0.

    On the CPU, where a running sum is always the same: a GPU's depends on how it is cut up.
    """
    (rank,) = criteria.ranks([score.detach().cpu().double()])  # refuses what is negative: a square would hide it
    order = rank.flatten().argsort()
    squares = (score.detach().cpu().double() * mask.bool().cpu()).flatten()[order] ** 2
    at_least = squares.flip(0).cumsum(0).flip(0)
    adapted = torch.empty_like(squares)
    adapted[order] = squares / at_least.where(at_least > 0, 1.0)  # of nothing but zeros: 0
    return adapted.view(score.shape)
