"""SET: sparse training that grows weights at random."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from prunelab.pruning.masks import MaskedTensor
from prunelab.runtime.seeding import derive
from prunelab.training.callbacks.drop_and_grow import DropAndGrow


class SET(DropAndGrow):
    """Sparse evolutionary training: drop the smallest weights and grow as many at random.

    Two differences from the paper: the smallest weights are chosen by |w| over both signs together, and weights that
    grow start at zero.

    Use it to train a sparse network without ever training the dense one, if no dense gradient may be computed.

    Args:
        every: iterations between two moves, ≥ 1.
        until: fraction of the iterations, in (0, 1], after which no weights move.
        fraction: share that moves (at first), in (0, 1); the paper's ζ.
        decay: of the share: `constant`, as in the paper, or `cosine`.

    Raises:
        ConfigError: if a value is outside its range, or if fine-tuning is too short for a single move.

    Source: Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive sparse connectivity",
    algorithm 1, arXiv 1707.04780.
    """

    name = "set"

    def scores(self, iteration: int, items: Sequence[MaskedTensor]) -> Mapping[str, Tensor]:
        """Return uniform draws by (seed, round, iteration), made on the CPU so that every device grows the same."""
        generator = torch.Generator().manual_seed(derive(self.phase.seed, self.phase.round, iteration, "grow"))
        return {item.name: torch.rand(item.mask.shape, generator=generator).to(item.mask.device) for item in items}
