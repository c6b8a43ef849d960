"""How important is a weight: scores ≥ 0, and their ranks, which decide ties.

torch's pruning functions use `torch.topk`, whose choice among equal scores differs by device, size and version. They
take `importance_scores`; given *ranks* instead of scores they prune the same weights wherever they run: of equal
scores, the one that stands first in the tensor goes first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prunelab.masks import Parameters

Scores = Sequence[Tensor]


def original(module: nn.Module, name: str) -> Tensor:
    """The tensor that the optimizer moves: `weight_orig` under a mask, else `weight`."""
    return getattr(module, f"{name}_orig", getattr(module, name)).detach()


def mask(module: nn.Module, name: str) -> Tensor:
    """The mask, or ones where there is none; the tensor's shape."""
    existing = getattr(module, f"{name}_mask", None)
    return torch.ones_like(original(module, name)) if existing is None else existing


def magnitude(parameters: Parameters) -> list[Tensor]:
    """|w|. Source: Han et al. 2015, arXiv 1506.02626."""
    return [original(module, name).abs() for module, name in parameters]


def norms(weight: Tensor, n: float, dim: int) -> Tensor:
    """The Lₙ norm of each channel along `dim`, [weight.shape[dim]]. Source: Li et al. 2017, arXiv 1608.08710."""
    return torch.linalg.vector_norm(weight.transpose(0, dim).flatten(1).double().cpu(), ord=n, dim=1)


def ranks(scores: Scores) -> list[Tensor]:
    """The place, from 1, of each score in one common order, smallest first; of equals, the first comes first.

    Args:
        scores: tensors of any shapes, all ≥ 0 and finite.

    Returns:
        Tensors of the same shapes, on the same devices; float32 while that counts exactly, else float64.

    Raises:
        ValueError: for a negative, infinite or NaN score. (torch would keep a NaN and say nothing.)
    """
    flat = torch.cat([score.detach().flatten() for score in scores])
    if not (torch.isfinite(flat).all() and (flat >= 0).all()):
        raise ValueError("scores must be finite and ≥ 0: a weight or a score is NaN, infinite or negative")
    order = torch.sort(flat, stable=True).indices
    place = torch.empty(flat.numel(), dtype=torch.float32 if flat.numel() < 2**23 else torch.float64)
    place[order.cpu()] = torch.arange(1, flat.numel() + 1, dtype=place.dtype)
    parts = place.split([score.numel() for score in scores])
    return [part.view(score.shape).to(score.device) for part, score in zip(parts, scores, strict=True)]
