"""Sparse momentum: sparse training that grows where the momentum is largest, in all tensors together."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunelab.errors import ConfigError
from prunelab.pruning.allocation.uniform import apportioned
from prunelab.pruning.mask_hooks import remove
from prunelab.pruning.masks import MaskedTensor
from prunelab.training.callbacks.base import Phase
from prunelab.training.callbacks.drop_and_grow import Count, DropAndGrow, active, pruned

NEARLY_FULL = 0.2  # share of pruned weights, as in the authors' code
NO_MOMENTUM = "sparse_training=sparse_momentum: must have an optimizer with momentum, such as optimizer=sgd"


class SparseMomentum(DropAndGrow):
    """Drop the smallest weights of each tensor; of all tensors, grow as many where the momentum is largest.

    What grows is shared out among the tensors in proportion to the mean |momentum| of their active weights; what a
    tensor has no room for goes to the others. So the number of active weights stays, but not that of each tensor. The
    optimizer gets the gradients of pruned weights, too, and so their momentum: SGD's buffer, or Adam's m ÷ (√v + 1e-8).
    Weights that grow start at zero and keep their momentum. A tensor with less than 20% pruned weights and a mean
    |momentum| above the tensors' mean drops no larger a share than the share of its weights that is pruned.

    Differences from the authors' code: a weight that was just dropped cannot grow again at once; the number of active
    weights is kept exactly; the share falls to 0, not to 0.005.

    Use it in the place of `rigl` if no extra gradient may be computed: momentum says where weights grow.

    Args:
        every: iterations between two moves, ≥ 1; in the paper an epoch: 860 for MNIST in batches of 64.
        until: fraction of the iterations, in (0, 1], after which no weights move.
        fraction: share of each tensor's active weights that is dropped (at first), in (0, 1).
        decay: of the share: `cosine` or `constant`.

    Raises:
        ConfigError: if a value is outside its range, or if fine-tuning is too short for a single move.

    Source: Dettmers & Zettlemoyer 2019, "Sparse networks from scratch: faster training without losing performance",
    §3, arXiv 1907.04840.
    """

    name = "sparse_momentum"
    forgets = False

    def __init__(
        self, phase: Phase, every: int = 860, until: float = 1.0, fraction: float = 0.5, decay: str = "cosine"
    ) -> None:
        super().__init__(phase, every, until, fraction, decay)
        self.missing = dict[str, Tensor]()  # gradients of pruned weights by the tensors' names, zero elsewhere
        self.handles = list[RemovableHandle]()

    def check(self, optimizer: Optimizer) -> None:
        """Raise ConfigError if the optimizer has no momentum."""
        if not any(group.get("momentum") or "betas" in group for group in optimizer.param_groups):
            raise ConfigError(NO_MOMENTUM)

    def begin(self, optimizer: Optimizer) -> None:
        """Take the optimizer, and listen to gradients before they are masked."""
        super().begin(optimizer)
        trained = [item for item in self.phase.masked() if item.parameter.requires_grad]
        self.handles = [item.parameter.register_hook(partial(self._see, item)) for item in trained]

    def before_step(self, iteration: int) -> None:
        """Give the optimizer the gradients of pruned weights; its step moves those weights, and the masks zero them."""
        for item in self.phase.masked():
            if item.name in self.missing and item.parameter.grad is not None:
                item.parameter.grad.add_(self.missing.pop(item.name))

    def moved(self) -> list[MaskedTensor]:
        """Return all tensors that are trained; a full one may lose weights to others."""
        assert self.optimizer is not None
        return [item for item in self.phase.masked() if item.parameter in self.optimizer.state]

    def scores(self, iteration: int, items: Sequence[MaskedTensor]) -> Mapping[str, Tensor]:
        """Return |momentum| of each weight."""
        assert self.optimizer is not None
        return {item.name: momentum(self.optimizer.state[item.parameter]).abs() for item in items}

    def counts(self, share: float, items: Sequence[MaskedTensor], scores: Mapping[str, Tensor]) -> Sequence[Count]:
        """Return how many weights of each tensor are dropped, and how many grow; both have the same sum."""
        there, room = [active(item) for item in items], [pruned(item) for item in items]
        means = [float(scores[item.name][item.kept].mean()) if n else 0.0 for item, n in zip(items, there, strict=True)]
        share = min(share, sum(room) / max(sum(there), 1))
        drop = list[int]()
        for n, empty, mean in zip(there, room, means, strict=True):
            free = empty / (n + empty)
            growing = free < NEARLY_FULL and mean * len(items) > sum(means)
            drop.append(int((min(share, free) if growing else share) * n))
        if sum(drop) < len(items):  # too few to share out
            return [(min(n, empty), min(n, empty)) for n, empty in zip(drop, room, strict=True)]
        least = max(1e-9 * sum(means), 1e-30)
        grow = apportioned([Fraction(max(mean, least)) for mean in means], room, sum(drop))
        return list(zip(drop, grow, strict=True))

    def finish(self) -> None:
        """Remove the hooks."""
        remove(self.handles)

    def _see(self, item: MaskedTensor, gradient: Tensor) -> None:
        if not gradient.is_sparse:
            self.missing[item.name] = gradient.detach().masked_fill(item.kept, 0)


def momentum(state: Mapping[str, Tensor]) -> Tensor:
    """Return the momentum of an optimizer's state of one tensor; ConfigError if it has none."""
    if "momentum_buffer" in state:
        return state["momentum_buffer"]
    if "exp_avg" in state and "exp_avg_sq" in state:
        return state["exp_avg"] / (state["exp_avg_sq"].sqrt() + 1e-8)
    raise ConfigError(NO_MOMENTUM)
