"""Whole channels: output or input channels of a convolution, neurons of a Linear layer."""

import math

from torch import Tensor, nn

from prunelab.errors import ConfigError, check_number
from prunelab.pruning.masks import MaskedTensor
from prunelab.pruning.units import Granularity, input_dim


class Channel(Granularity):
    """Prune whole channels by the Lₙ norm of their weights' scores.

    A channel's score is (mean of scoreⁿ)^(1/n), so that channels of different sizes can be ranked together: for n = 2
    the root mean square, for n = ∞ the largest. Pruned weights count as zeros. The bias of a pruned output channel is
    pruned too; otherwise the channel's output would be its bias.

    Use it if the network must become smaller and faster everywhere: `compact=true` really removes channels.

    Args:
        n: order of the norm, > 0; `inf` for the largest.
        dim: dimension of the weight: 0 for output channels, 1 for input channels. (A transposed convolution's weight
            has its input channels first.)

    Raises:
        ConfigError: for n ≤ 0.

    Source: Li et al. 2017, "Pruning filters for efficient ConvNets", arXiv 1608.08710; `prune.ln_structured`.
    """

    def __init__(self, n: float = 2, dim: int = 0) -> None:
        if isinstance(n, str) and n.lower() in ("inf", ".inf"):
            n = math.inf
        if n != math.inf:
            check_number("granularity.n", n, "a number > 0, or inf", lambda x: x > 0)
        if isinstance(dim, bool) or not isinstance(dim, int):
            raise ConfigError(f"granularity.dim={dim}: must be a whole number")
        self.n, self.dim = n, dim
        self.spares_output = dim == 0  # type: ignore[misc]

    def check(self, item: MaskedTensor) -> None:
        """Raise ConfigError for a tensor that has no such channels."""
        shape = list(item.parameter.shape)
        if len(shape) < 2 or not -len(shape) <= self.dim < len(shape):
            raise ConfigError(f"granularity.dim={self.dim}: {item.name} has shape {shape}, which has no such channels")

    def shape(self, item: MaskedTensor) -> tuple[int, ...]:
        """Return [channels]."""
        return (item.parameter.shape[self.dim],)

    def scores(self, scores: Tensor, item: MaskedTensor) -> Tensor:
        """Return the norm of each channel, float64 [channels], on the CPU, where sums do not depend on the device."""
        rows = scores.transpose(0, self.dim).flatten(1).cpu().double().abs()
        if math.isinf(self.n):
            return rows.amax(1)
        return rows.pow(self.n).mean(1).pow(1 / self.n)

    def alive(self, item: MaskedTensor) -> Tensor:
        """Return True for each channel with a weight, [channels]."""
        return item.kept.transpose(0, self.dim).flatten(1).any(1).cpu()

    def spread(self, units: Tensor, item: MaskedTensor) -> Tensor:
        """Return the decision for all weights of each channel."""
        dims = item.parameter.dim()
        view = units.view([-1 if d == self.dim % dims else 1 for d in range(dims)])
        return view.expand(item.parameter.shape).to(item.mask.device)

    def followers(self, item: MaskedTensor) -> list[tuple[nn.Module, str]]:
        """Return the bias of each layer that has the weight, if the channels are output channels."""
        if self.dim % item.parameter.dim() != 0:
            return []
        layers = [owner for owner, key in item.owners if key == "weight" and input_dim(owner) == 1]
        return [(layer, "bias") for layer in layers if isinstance(getattr(layer, "bias", None), nn.Parameter)]
