"""RigL: sparse training that grows the weights that the loss asks for most."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from prunelab.pruning.masks import Masked
from prunelab.runtime.seeding import seeded
from prunelab.training.callbacks.drop_and_grow import DropAndGrow, dense_gradients


class RigL(DropAndGrow):
    """Drops the smallest weights and grows those with the largest gradient, were they there; fewer and fewer of them.

    The share that moves after iteration t is α/2 · (1 + cos(t·π/T_end)). Other than in the paper, the gradient is of
    another batch than the step's, and a weight dropped just now cannot grow at once.

    Args:
        every: iterations between two such steps, ≥ 1; the paper's ΔT.
        until: a fraction in (0, 1] of the iterations; the paper's T_end.
        fraction: in (0, 1); the paper's α.

    Raises:
        ConfigError: for a value outside its range, or if fine-tuning is too short for even one such step.

    Source: Evci et al. 2020, "Rigging the lottery", §3 and algorithm 1, arXiv 1911.11134.
    """

    name = "rigl"

    def share(self, iteration: int) -> float:
        """α/2 · (1 + cos(t·π/T_end))."""
        return self.fraction / 2 * (1 + math.cos(math.pi * iteration / self.end))

    def scores(self, iteration: int, items: list[Masked]) -> Mapping[str, Tensor]:
        """|∂L/∂w| of one batch; what the network itself draws (dropout) is drawn by (seed, round, iteration)."""
        with seeded(self.phase.seed, self.phase.round, iteration, "gradient"):
            return dense_gradients(self.phase, iteration, [item.name for item in items])
