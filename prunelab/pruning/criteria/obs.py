"""Optimal brain surgeon, layer by layer: the increase of a layer's squared output error by the removal of a weight."""

import torch
from torch import Tensor

from prunelab.pruning.criteria.base import Evidence, exact
from prunelab.pruning.reconstruction import hessians, layers_of, rows_alike


def obs(evidence: Evidence, *, examples: int = 2048) -> list[Tensor]:
    """Score a weight by ½ w² ÷ [H⁻¹]_qq, the rise of the layer's output error if the rest of its row makes up for it.

    H = (2/N) Σ x xᵀ + λI over the layer's inputs, restricted to the row's unpruned weights; see `reconstruction.obs`,
    which updates the rest (`reconstruct=obs`). For Linear and Conv layers. The scores hold for one weight of a row:
    `criterion.iterations` computes them anew as weights go.

    Use it with `reconstruct=obs` to prune a trained network without fine-tuning.

    Args:
        examples: whole number ≥ 1 of training examples.

    Raises:
        ConfigError: if `examples` is out of range, or for a tensor of another kind of layer.

    Source: Hassibi & Stork 1993, "Second order derivatives for network pruning: optimal brain surgeon", eq. 5; layer by
    layer: Frantar & Alistarh 2022, "Optimal brain compression", arXiv 2208.11580.
    """
    found = hessians(evidence, layers_of(evidence, [True] * len(evidence.names)), examples)
    three = zip(evidence.values, evidence.masks, found.values(), strict=True)
    return [saliency(weight, mask, hessian) for weight, mask, hessian in three]


def saliency(weight: Tensor, mask: Tensor, hessian: Tensor) -> Tensor:
    """Return ½ w² ÷ [H⁻¹]_qq of each weight, 0 where pruned; the arguments are those of `least_squares`."""
    rows, kept = exact(weight).reshape(len(weight), -1), mask.reshape(len(weight), -1)
    scores = torch.zeros_like(rows)
    for part, place, _, factor in rows_alike(kept, hessian):
        scores[part, place] = rows[part, place].square() / torch.cholesky_inverse(factor).diagonal() / 2
    return scores.view_as(weight)
