"""Whatever is at most a threshold, however much that is."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.utils import prune

from prunelab.config.schema import ConfigError
from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies.base import channels, check_choice, check_matrix, check_null, per_channel, prune_biases


def threshold(parameters: Parameters, amount: float | None, *, threshold: float, granularity: str = "weight") -> None:
    """Prunes all unpruned weights with |w| ≤ threshold, or all output channels whose root mean square is.

    It goes by the weights themselves and takes no scores. The best unit of a tensor stays. A channel's pruned weights
    count as zeros; its bias goes with it.

    Args:
        amount: None: the threshold decides how much goes.
        threshold: ≥ 0, in the weights' own precision; 0 removes exact zeros, as an L0 penalty leaves them.
        granularity: `weight`, or `channel`: one index of dimension 0.

    Raises:
        ConfigError: for an amount, a negative threshold, another granularity, or channels of a tensor that has one
            dimension.

    Source: Han et al. 2015, "Learning both weights and connections", §3.1, arXiv 1506.02626.
    """
    check_null(amount, "threshold")
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold < math.inf:
        raise ConfigError(f"strategy.threshold={threshold}: must be a number ≥ 0")
    check_choice("strategy.granularity", granularity, ("weight", "channel"))
    for module, name in parameters:
        weight, mask = criteria.original(module, name), criteria.mask(module, name)
        limit = float(torch.tensor(threshold, dtype=weight.dtype))  # a float32 0.3 is larger than Python's
        if granularity == "weight":
            prune.custom_from_mask(module, name, _kept((weight * mask).abs().contiguous(), mask.bool(), limit))
            continue
        check_matrix("strategy.granularity", granularity, module, name)
        rms = (weight * mask).cpu().double().flatten(1).square().mean(1).sqrt()  # [channels]
        kept = _kept(rms, channels(mask, 0).cpu(), limit)
        prune.custom_from_mask(module, name, per_channel(kept.to(mask.device), 0, mask.shape))
        prune_biases(module, name)


def _kept(sizes: Tensor, alive: Tensor, limit: float) -> Tensor:
    """True where a size is above the limit, and for the best of the living."""
    (rank,) = criteria.ranks([sizes])
    kept = sizes > limit
    kept.view(-1)[(rank * alive).argmax()] = True
    return kept
