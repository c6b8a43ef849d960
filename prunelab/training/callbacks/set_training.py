"""SET: sparse training that grows weights at random."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunelab.pruning.masks import Masked
from prunelab.runtime.seeding import derive
from prunelab.training.callbacks.drop_and_grow import DropAndGrow


class SET(DropAndGrow):
    """Sparse evolutionary training: drops the smallest weights, and grows as many at random, the same share each time.

    Other than in the paper, the smallest are chosen by |w| over both signs together, and grown weights start at 0.

    Args:
        every: iterations between two such steps, ≥ 1.
        until: a fraction in (0, 1] of the iterations.
        fraction: in (0, 1); the paper's ζ.

    Raises:
        ConfigError: for a value outside its range, or if fine-tuning is too short for even one such step.

    Source: Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive sparse connectivity",
    algorithm 1, arXiv 1707.04780.
    """

    name = "set"

    def scores(self, iteration: int, items: list[Masked]) -> Mapping[str, Tensor]:
        """Uniform draws by (seed, round, iteration), on the CPU, so that every device grows the same."""
        generator = torch.Generator().manual_seed(derive(self.phase.seed, self.phase.round, iteration, "grow"))
        return {item.name: torch.rand(item.mask.shape, generator=generator).to(item.mask.device) for item in items}
