"""LAMP: one ranking of all tensors, in which each score is relative to the larger ones of its tensor."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from prunelab.pruning.allocation.global_ import Global
from prunelab.pruning.units import Units


class Lamp(Global):
    """Prune the units with the smallest layer-adaptive scores of all tensors.

    A unit's layer-adaptive score is its score² ÷ the sum of the squares of all living units of its tensor that have at
    least its score (of equal ones: those that stand behind it). The best unit of each tensor has 1 and stays.

    Use it with `magnitude` at high sparsity, where one plain ranking would empty a layer.

    Source: Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based pruning", eq. 1, arXiv 2010.07611.
    """

    def pruned(self, units: Sequence[Units], amount: float | None) -> list[Tensor]:
        """Return the units with the smallest layer-adaptive scores."""
        adapted = [replace(u, scores=_adapted(u.scores, u.alive), alive=u.alive.cpu()) for u in units]
        gone = super().pruned(adapted, amount)
        return [part.to(u.scores.device) for part, u in zip(gone, units, strict=True)]


def _adapted(scores: Tensor, alive: Tensor) -> Tensor:
    """Return the layer-adaptive scores of one tensor; 0 where it is pruned, and where the score is 0.

    In float64 on the CPU: a GPU's running sum depends on how it is divided.
    """
    values = scores.detach().cpu().double().flatten()
    if bool((values < 0).any()):
        raise ValueError("scores must be finite and ≥ 0: a weight or a score is NaN, infinite or negative")
    order = torch.sort(values, stable=True).indices
    squares = (values * alive.cpu().flatten())[order] ** 2
    at_least = squares.flip(0).cumsum(0).flip(0)
    adapted = torch.empty_like(squares)
    adapted[order] = squares / at_least.where(at_least > 0, 1.0)
    return adapted.view(scores.shape)
