"""N:M sparsity: of each M neighbouring weights N stay, a pattern that sparse tensor cores multiply faster."""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from prunelab.errors import ConfigError, at_least_one
from prunelab.pruning.units import Allocation, Count, Units, smallest


class NM(Allocation):
    """Keep the `n` weights with the largest scores of each `m` consecutive ones along the inputs.

    The groups of a convolution run over its input channels at one kernel position: [out, in, kh, kw] is seen as
    [out, kh, kw, in], the order in which hardware multiplies. The last group of a row may be shorter and keeps at most
    `n` too, so a layer with at most `n` inputs, such as a first convolution of one channel, stays whole.

    Use it with 2 of 4 for hardware with sparse tensor cores, on Linear and Conv layers.

    Args:
        n: how many weights of a group stay, 1 ≤ n < m.
        m: weights in a group.

    Raises:
        ConfigError: for n or m out of range.

    Source: Zhou et al. 2021, "Learning N:M fine-grained structured sparse neural networks from scratch",
        arXiv 2102.04010; 2:4 in hardware: Mishra et al. 2021, arXiv 2104.08378.
    """

    sets_amount = True
    needs_weights = True
    evenly = True

    def __init__(self, n: int = 2, m: int = 4) -> None:
        self.n, self.m = at_least_one("allocation.n", n), at_least_one("allocation.m", m)
        if n >= m:
            raise ConfigError(f"allocation.n={n}: must be less than allocation.m={m}")

    def check(self, name: str, units: tuple[int, ...]) -> None:
        """Raise ConfigError for a tensor with fewer than two dimensions."""
        if len(units) < 2:
            raise ConfigError(f"allocation.m={self.m}: {name} has shape {list(units)}; must have 2 dimensions or more")

    def pruned(self, units: Sequence[Units], amount: float | None) -> list[Tensor]:
        """Return the weights that are not among the `n` largest of their group; of equal ones the first."""
        return [self._pruned(u) for u in units]

    def left(self, counts: Sequence[Count], amount: float | None) -> list[int]:
        """Return the number of weights that each tensor keeps."""
        return [self._left(count) for count in counts]

    def _pruned(self, units: Units) -> Tensor:
        smallest([units.scores], [units.alive], 0)  # refuses scores that are not finite and ≥ 0
        ranked = torch.where(units.alive, units.scores, -1.0).movedim(units.inputs, -1)
        width = ranked.shape[-1]
        groups = F.pad(ranked, (0, -width % self.m), value=-1.0).unflatten(-1, (-1, self.m))  # [out, kh, kw, groups, m]
        order = groups.sort(dim=-1, stable=True).indices
        place = torch.empty_like(order).scatter_(-1, order, torch.arange(self.m).to(order).expand_as(order))
        gone = (place < self.m - self.n).flatten(-2)[..., :width].movedim(-1, units.inputs)
        return gone & units.alive

    def _left(self, count: Count) -> int:
        width = count.shape[count.inputs]
        row = width // self.m * self.n + min(width % self.m, self.n)
        return min(count.alive, prod(count.shape) // width * row)
