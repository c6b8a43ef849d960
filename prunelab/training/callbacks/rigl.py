"""RigL: sparse training that grows the weights with the largest gradients."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from prunelab.pruning.masks import MaskedTensor
from prunelab.runtime.seeding import seeded
from prunelab.training.callbacks.base import Phase
from prunelab.training.callbacks.drop_and_grow import DropAndGrow, dense_gradients


class RigL(DropAndGrow):
    """Drop the smallest weights and grow the pruned ones with the largest gradients; the share falls over time.

    The share that moves after iteration t is α/2 · (1 + cos(t·π/T_end)). Two differences from the paper: the gradient
    is that of another batch than the step's, and a weight that was just dropped cannot grow again at once.

    Use it to train a sparse network without ever training the dense one; it is better than `set`, for one more
    gradient per move.

    Args:
        every: iterations between two moves, ≥ 1; the paper's ΔT.
        until: fraction of the iterations, in (0, 1], after which no weights move; the paper's T_end.
        fraction: share that moves at first, in (0, 1); the paper's α.
        decay: of the share, `cosine` or `constant`.

    Raises:
        ConfigError: if a value is outside its range, or if fine-tuning is too short for a single move.

    Source: Evci et al. 2020, "Rigging the lottery", §3 and algorithm 1, arXiv 1911.11134.
    """

    name = "rigl"

    def __init__(
        self, phase: Phase, every: int = 100, until: float = 0.75, fraction: float = 0.3, decay: str = "cosine"
    ) -> None:
        super().__init__(phase, every, until, fraction, decay)

    def scores(self, iteration: int, items: Sequence[MaskedTensor]) -> Mapping[str, Tensor]:
        """Return |∂L/∂w| of one batch. Dropout inside the network draws by (seed, round, iteration)."""
        with seeded(self.phase.seed, self.phase.round, iteration, "gradient"):
            return dense_gradients(self.phase, iteration, [item.name for item in items])
