"""Blocks of neighbouring weights, which hardware can skip whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import prune

from prunelab.config.schema import ConfigError
from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.base import Scores
from prunelab.pruning.masks import Parameters
from prunelab.pruning.strategies.base import check_choice, check_matrix, check_whole, smallest


def block(
    parameters: Parameters, amount: float, *, scores: Scores | None = None, size: Sequence[int], scope: str = "local"
) -> None:
    """Prunes the `amount` of the living blocks whose unpruned weights have the smallest mean score.

    A tensor is seen as a matrix [out, in·kh·kw] and cut into blocks from its upper left corner; those at its right and
    lower edges may be smaller. A block lives while one of its weights does; one that goes, goes whole.

    Args:
        amount: fraction in [0, 1) of the living blocks, of each tensor or of all tensors together; round(amount · n)
            go, never a tensor's last one. So a tensor that is one block stays as it is.
        scores: one tensor ≥ 0 a parameter, of its shape; default: magnitude.
        size: rows and columns of a block, whole numbers ≥ 1.
        scope: `local` (tensor by tensor) or `global` (one ranking of all blocks).

    Raises:
        ConfigError: for another size or scope, or a tensor that has one dimension.

    Source: Narang et al. 2017, "Block-sparse recurrent neural networks", arXiv 1711.02782 (there a block's score is its
        largest weight, not the mean).
    """
    check_choice("strategy.scope", scope, ("local", "global"))
    rows, columns = _checked(size)
    for module, name in parameters:
        check_matrix("strategy.size", [rows, columns], module, name)
    scores = criteria.magnitudes(parameters) if scores is None else scores
    kept = [criteria.mask(module, name) for module, name in parameters]
    means, alive = _means(scores, kept, rows, columns)
    if scope == "global":
        gone = smallest(means, alive, amount)
    else:
        gone = [smallest([mean], [living], amount)[0] for mean, living in zip(means, alive, strict=True)]
    for (module, name), mask, goes in zip(parameters, kept, gone, strict=True):
        spread = goes.repeat_interleave(rows, 0).repeat_interleave(columns, 1)  # weights, beyond the edges too
        out, rest = mask.flatten(1).shape
        prune.custom_from_mask(module, name, ~spread[:out, :rest].reshape(mask.shape).to(mask.device))


def _means(scores: Scores, masks: Sequence[Tensor], rows: int, columns: int) -> tuple[list[Tensor], list[Tensor]]:
    """Of each tensor's blocks, [down, across]: the mean score of the unpruned weights, and whether there are any."""
    counts, means = [], []
    for score, mask in zip(scores, masks, strict=True):
        counts.append(_blocks(mask, rows, columns).sum((1, 3)))
        means.append(_blocks(score.to(mask.device) * mask, rows, columns).sum((1, 3)) / counts[-1].clamp(min=1))
    return means, [number > 0 for number in counts]


def _blocks(tensor: Tensor, rows: int, columns: int) -> Tensor:
    """[down, rows, across, columns], with zeros beyond the edges."""
    matrix = tensor.detach().cpu().double().flatten(1)  # on the CPU, so that every device adds up the same
    down, across = -(-matrix.shape[0] // rows), -(-matrix.shape[1] // columns)
    padded = F.pad(matrix, (0, across * columns - matrix.shape[1], 0, down * rows - matrix.shape[0]))
    return padded.view(down, rows, across, columns)


def _checked(size: Sequence[int]) -> tuple[int, int]:
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ConfigError(f"strategy.size={size}: must be rows and columns of a block, such as [4,4]")
    for number in size:
        check_whole("strategy.size", number)
    return size[0], size[1]
