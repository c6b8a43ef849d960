"""Whole channels with the smallest Lₙ norm, tensor by tensor."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils import prune

from prunelab import criteria
from prunelab.config import ConfigError
from prunelab.criteria import Scores
from prunelab.masks import Parameters
from prunelab.strategies import count


def ln_structured(
    parameters: Parameters, amount: float, *, scores: Scores | None = None, n: float = 2, dim: int = 0
) -> None:
    """Prunes, in each tensor, the `amount` of its living channels with the smallest Lₙ norm.

    With `dim=0`, the bias of a pruned output channel is pruned with it, or the channel would go on emitting its bias.

    Args:
        amount: fraction in [0, 1) of each tensor's living channels; round(amount · channels) go, never the last one.
        scores: one tensor ≥ 0 a parameter, of its shape, whose channel norms count; default: the weights.
        n: order of the norm, > 0.
        dim: 0 for output channels, 1 for input channels.

    Raises:
        ConfigError: for a tensor without channels along `dim`, or n ≤ 0.

    Source: Li et al. 2017, "Pruning filters for efficient ConvNets", arXiv 1608.08710; `prune.ln_structured`.
    """
    if not isinstance(n, (int, float)) or not n > 0:
        raise ConfigError(f"strategy.n={n}: must be a number > 0")
    scores = [criteria.original(module, name) for module, name in parameters] if scores is None else scores
    for (module, name), score in zip(parameters, scores, strict=True):
        if score.dim() < 2 or not -score.dim() <= dim < score.dim():
            shape = list(score.shape)
            raise ConfigError(
                f"strategy.dim={dim}: {name} of {type(module).__name__} has shape {shape}, no such channels"
            )
        axis = dim % score.dim()
        rank = _channel_ranks(score * criteria.mask(module, name), n, axis)
        alive = criteria.mask(module, name).transpose(0, axis).flatten(1).any(1)  # [channels]
        goes = count(amount, int(alive.sum()))
        prune.ln_structured(module, name, amount=goes, n=math.inf, dim=axis, importance_scores=rank)  # of ranks
        transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)  # weight [in, out, …]
        if axis == 0 and not transposed and name == "weight" and getattr(module, "bias", None) is not None:
            alive = criteria.mask(module, name).flatten(1).any(1)
            prune.custom_from_mask(module, "bias", alive.to(score.dtype))


def _channel_ranks(score: torch.Tensor, n: float, dim: int) -> torch.Tensor:
    """Each channel filled with the place of its norm: a tensor whose norms have the same order, without ties."""
    (rank,) = criteria.ranks([criteria.norms(score, n, dim)])
    shape = [-1 if d == dim else 1 for d in range(score.dim())]
    return rank.to(score.device).view(shape).expand(score.shape).contiguous()
