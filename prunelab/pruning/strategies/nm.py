"""N:M sparsity: of each M neighbouring weights N stay, a pattern that sparse tensor cores multiply faster."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import prune

from prunelab.config.schema import ConfigError
from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.base import Scores
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies.base import check_matrix, check_null, check_whole, is_transposed


def nm(parameters: Parameters, amount: float | None, *, scores: Scores | None = None, n: int = 2, m: int = 4) -> None:
    """Prunes, of each `m` consecutive weights along the input dimension, all but the `n` with the best scores.

    A convolution's groups run over its input channels at one kernel position ([out, in, kh, kw] is seen as
    [out, kh, kw, in]), the order in which hardware multiplies. The last group of a row may be shorter and keeps at most
    `n` too; so a layer with no more than `n` inputs, such as a first convolution of one channel, stays as it is.

    Args:
        amount: None: n and m decide how much goes.
        scores: one tensor ≥ 0 a parameter, of its shape; default: magnitude.
        n: how many of a group stay, 1 ≤ n < m.
        m: weights in a group.

    Raises:
        ConfigError: for an amount, n or m out of range, or a tensor that has one dimension.

    Source: Zhou A. et al. 2021, "Learning N:M fine-grained structured sparse neural networks from scratch", arXiv
        2102.04010; for 2:4 on hardware Mishra et al. 2021, arXiv 2104.08378.
    """
    check_null(amount, "nm")
    check_whole("strategy.n", n)
    check_whole("strategy.m", m)
    if n >= m:
        raise ConfigError(f"strategy.n={n}: must be less than strategy.m={m}")
    scores = criteria.magnitudes(parameters) if scores is None else scores
    for (module, name), score in zip(parameters, scores, strict=True):
        check_matrix("strategy.m", m, module, name)
        mask = criteria.mask(module, name)
        (rank,) = criteria.ranks([score.to(mask.device)])
        inputs = 0 if is_transposed(module) else 1
        prune.custom_from_mask(module, name, _kept((rank * mask).movedim(inputs, -1), n, m).movedim(-1, inputs))


def _kept(rank: Tensor, n: int, m: int) -> Tensor:
    """True for the `n` largest of each `m` consecutive ranks along the last dimension; of the ranks' shape.

    What is pruned has rank 0, so that it never takes a living weight's place.
    """
    width = rank.shape[-1]
    groups = F.pad(rank, (0, -width % m)).unflatten(-1, (-1, m))  # [out, kh, kw, groups, m]
    least = groups.topk(n, -1).values[..., -1:]
    return (groups >= least).flatten(-2)[..., :width]
