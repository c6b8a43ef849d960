"""Whole channels with the smallest Lₙ norm, tensor by tensor or in one ranking over all tensors."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.utils import prune

from prunelab.config.schema import ConfigError
from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.base import Scores
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies.base import channels, check_choice, count, per_channel, prune_biases, smallest


def ln_structured(
    parameters: Parameters,
    amount: float,
    *,
    scores: Scores | None = None,
    n: float = 2,
    dim: int = 0,
    scope: str = "local",
) -> None:
    """Prunes the `amount` of the living channels with the smallest Lₙ norm.

    With `dim=0`, the bias of a pruned output channel is pruned with it, or the channel would go on emitting its bias.

    Args:
        amount: fraction in [0, 1) of the living channels, of each tensor or of all tensors together;
            round(amount · n) of n go, never a tensor's last one.
        scores: one tensor ≥ 0 a parameter, of its shape, whose channel norms count; default: the weights.
        n: order of the norm, > 0.
        dim: 0 for output channels, 1 for input channels.
        scope: `local` (tensor by tensor) or `global`: one ranking of all channels by the norm ÷ (weights of a
            channel)^1/n, for n = 2 by the root mean square, since the norm itself grows with the size of a layer.
            Pruned weights count as zeros.

    Raises:
        ConfigError: for a tensor without channels along `dim`, n ≤ 0, or another scope.

    Source: Li et al. 2017, "Pruning filters for efficient ConvNets", arXiv 1608.08710; `prune.ln_structured`.
    """
    if not isinstance(n, (int, float)) or not n > 0:
        raise ConfigError(f"strategy.n={n}: must be a number > 0")
    check_choice("strategy.scope", scope, ("local", "global"))
    scores = [criteria.original(module, name) for module, name in parameters] if scores is None else scores
    _check_channels(parameters, dim)
    kept = [criteria.mask(module, name) for module, name in parameters]
    scores = [score.to(mask.device) * mask for score, mask in zip(scores, kept, strict=True)]
    axes = [dim % score.dim() for score in scores]
    (_locally if scope == "local" else _globally)(parameters, amount, scores, n, axes)
    for (module, name), axis in zip(parameters, axes, strict=True):
        if axis == 0:
            prune_biases(module, name)


def _locally(parameters: Parameters, amount: float, scores: Scores, n: float, axes: list[int]) -> None:
    for (module, name), score, axis in zip(parameters, scores, axes, strict=True):
        (rank,) = criteria.ranks([criteria.norms(score, n, axis)])
        filled = per_channel(rank.to(score.device), axis, score.shape)  # norms of the same order, without ties
        goes = count(amount, int(channels(criteria.mask(module, name), axis).sum()))
        prune.ln_structured(module, name, amount=goes, n=math.inf, dim=axis, importance_scores=filled)


def _globally(parameters: Parameters, amount: float, scores: Scores, n: float, axes: list[int]) -> None:
    alive = [channels(criteria.mask(*pair), axis).cpu() for pair, axis in zip(parameters, axes, strict=True)]
    means = [_mean(score, n, axis) for score, axis in zip(scores, axes, strict=True)]
    gone = smallest(means, alive, amount)
    for (module, name), score, axis, goes in zip(parameters, scores, axes, gone, strict=True):
        prune.custom_from_mask(module, name, per_channel(~goes.to(score.device), axis, score.shape))


def _mean(score: Tensor, n: float, dim: int) -> Tensor:
    """The mean of |w|ⁿ in each channel, [channels], in the order of norm ÷ size^1/n; for n = ∞ the largest |w|."""
    if math.isinf(n):
        return criteria.norms(score, n, dim)
    powers = score.transpose(0, dim).flatten(1).cpu().double().abs() ** n
    return powers.sum(1) / powers.shape[1]  # a root would keep the order, but round


def _check_channels(parameters: Parameters, dim: int) -> None:
    for module, name in parameters:
        shape = list(criteria.original(module, name).shape)
        if len(shape) < 2 or not -len(shape) <= dim < len(shape):
            raise ConfigError(
                f"strategy.dim={dim}: {name} of {type(module).__name__} has shape {shape}, no such channels"
            )
