"""Single weights."""

from torch import Tensor

from prunelab.pruning.masks import MaskedTensor
from prunelab.pruning.units import Granularity


class Weight(Granularity):
    """Prune single weights: unstructured pruning.

    Use it for the highest sparsity at a given accuracy. It makes nothing faster without a runtime for sparse
    weights.

    Source: Han et al. 2015, "Learning both weights and connections", arXiv 1506.02626.
    """

    def shape(self, item: MaskedTensor) -> tuple[int, ...]:
        """Return the parameter's shape."""
        return tuple(item.parameter.shape)

    def scores(self, scores: Tensor, item: MaskedTensor) -> Tensor:
        """Return the scores as they are."""
        return scores

    def alive(self, item: MaskedTensor) -> Tensor:
        """Return the mask."""
        return item.kept

    def spread(self, units: Tensor, item: MaskedTensor) -> Tensor:
        """Return the decision as it is."""
        return units
