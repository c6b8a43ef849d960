"""Whole kernels of convolutions."""

from torch import Tensor

from prunelab.pruning.granularity.block import need_matrix
from prunelab.pruning.masks import MaskedTensor
from prunelab.pruning.units import Granularity


class Kernel(Granularity):
    """Prune whole kernels: the kh·kw weights between one input and one output channel of a convolution.

    A kernel's score is the mean score of its weights; pruned ones count as zeros. In a Linear layer a kernel is a
    single weight.

    Use it for convolutions if your runtime skips whole kernels; it costs less accuracy than `channel`.

    Source: Mao et al. 2017, "Exploring the granularity of sparsity in convolutional neural networks",
        arXiv 1705.08922.
    """

    def check(self, item: MaskedTensor) -> None:
        """Raise ConfigError for a tensor with fewer than two dimensions."""
        need_matrix("granularity", "kernel", item)

    def shape(self, item: MaskedTensor) -> tuple[int, ...]:
        """Return the weight's first two dimensions."""
        return tuple(item.parameter.shape[:2])

    def scores(self, scores: Tensor, item: MaskedTensor) -> Tensor:
        """Return the mean score of each kernel, float64, on the CPU, where sums do not depend on the device."""
        return scores.cpu().double().unsqueeze(-1).flatten(2).mean(2)

    def alive(self, item: MaskedTensor) -> Tensor:
        """Return True for each kernel with a weight."""
        return item.kept.unsqueeze(-1).flatten(2).any(2).cpu()

    def spread(self, units: Tensor, item: MaskedTensor) -> Tensor:
        """Return the decision for all weights of each kernel."""
        view = units.view(*units.shape, *(1 for _ in item.parameter.shape[2:]))
        return view.expand(item.parameter.shape).to(item.mask.device)
