"""Rectangular blocks of neighbouring weights, which hardware can skip as a whole."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from prunelab.errors import ConfigError
from prunelab.pruning.masks import MaskedTensor
from prunelab.pruning.units import Granularity


class Block(Granularity):
    """Prune blocks of a weight flattened to a matrix [out, in·kh·kw].

    The blocks begin in the upper left corner; those at the right and lower edges may be smaller. A block's score is the
    mean score of its unpruned weights.

    Use it if your runtime skips whole blocks: a compromise between the accuracy of `weight` and the speed of
    `channel`.

    Args:
        size: rows and columns of a block, whole numbers ≥ 1.

    Raises:
        ConfigError: for another size.

    Source: Narang et al. 2017, "Block-sparse recurrent neural networks", arXiv 1711.02782 (there a block's score is
        its largest weight, not the mean).
    """

    def __init__(self, size: Sequence[int] = (4, 4)) -> None:
        wrong = isinstance(size, str) or not isinstance(size, Sequence) or len(size) != 2
        if wrong or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in size):
            shown = size if wrong else list(size)
            raise ConfigError(f"granularity.size={shown}: must be the rows and columns of a block, such as [4,4]")
        self.rows, self.columns = size

    def check(self, item: MaskedTensor) -> None:
        """Raise ConfigError for a tensor with fewer than two dimensions."""
        need_matrix("granularity.size", [self.rows, self.columns], item)

    def shape(self, item: MaskedTensor) -> tuple[int, ...]:
        """Return [blocks down, blocks across]."""
        rows, columns = item.parameter.flatten(1).shape
        return -(-rows // self.rows), -(-columns // self.columns)

    def weights_per_unit(self, item: MaskedTensor) -> int | None:
        """Return rows · columns, or None where the edges cut blocks off."""
        rows, columns = item.parameter.flatten(1).shape
        return self.rows * self.columns if rows % self.rows == columns % self.columns == 0 else None

    def scores(self, scores: Tensor, item: MaskedTensor) -> Tensor:
        """Return the mean score of each block's unpruned weights, float64 [down, across], on the CPU."""
        return self._sums(scores, item) / self._sums(item.mask, item).clamp(min=1)

    def alive(self, item: MaskedTensor) -> Tensor:
        """Return True for each block with a weight, [down, across]."""
        return self._sums(item.mask, item) > 0

    def spread(self, units: Tensor, item: MaskedTensor) -> Tensor:
        """Return the decision for all weights of each block."""
        filled = units.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)
        rows, columns = item.parameter.flatten(1).shape
        return filled[:rows, :columns].reshape(item.parameter.shape).to(item.mask.device)

    def _sums(self, tensor: Tensor, item: MaskedTensor) -> Tensor:
        """Return the sum over each block, float64, on the CPU, where sums do not depend on the device."""
        matrix = tensor.detach().cpu().double().flatten(1)
        down, across = self.shape(item)
        edges = (0, across * self.columns - matrix.shape[1], 0, down * self.rows - matrix.shape[0])
        return F.pad(matrix, edges).view(down, self.rows, across, self.columns).sum((1, 3))


def need_matrix(key: str, value: object, item: MaskedTensor) -> None:
    """Raise ConfigError for a tensor with fewer than two dimensions, which has neither rows nor columns."""
    if item.parameter.dim() < 2:
        shape = list(item.parameter.shape)
        raise ConfigError(f"{key}={value}: {item.name} has shape {shape}; must have 2 dimensions or more")
