"""A group lasso, under which whole output channels become small enough to be pruned by a threshold."""

from __future__ import annotations

import torch
from torch import Tensor

from prunelab.config.schema import ConfigError
from prunelab.training.callbacks.base import Phase, check_strength, weight
from prunelab.training.loop import Routine


class GroupLasso(Routine):
    """Adds strength · Σ √size · ‖w_g‖₂ to the loss: each index of dimension `dim` of a prunable tensor is a group g.

    The root of its size makes groups of every size equally dear, weight by weight. Channels come near to zero, not to
    zero itself: `strategy=threshold strategy.granularity=channel` prunes those that are small enough.

    Args:
        strength: in nats of cross-entropy per unit of weight, ≥ 0.
        dim: 0 for output channels (and the rows of a recurrent or attention layer), 1 for input channels.

    Raises:
        ConfigError: for a negative strength, a tensor without that dimension, or without dense training.

    Source: Yuan & Lin 2006, "Model selection and estimation in regression with grouped variables", eq. 2.1; Wen et al.
    2016, "Learning structured sparsity", arXiv 1608.03665, eq. 2.
    """

    def __init__(self, phase: Phase, strength: float = 1e-4, dim: int = 0) -> None:
        check_strength(phase, "group_lasso", strength)
        for module, name in phase.parameters:
            shape = list(weight(module, name).shape)
            if not -len(shape) <= dim < len(shape):
                raise ConfigError(f"regularizer.dim={dim}: {name} of {type(module).__name__} has shape {shape}")
        self.pairs, self.strength, self.dim = phase.parameters, strength, dim

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Adds the penalty at the weights as they are; its slope at a group of zeros is zero."""
        return loss + self.strength * torch.stack([self._norms(weight(*pair)) for pair in self.pairs]).sum()

    def _norms(self, values: Tensor) -> Tensor:
        groups = values.movedim(self.dim, 0).flatten(1) if values.dim() > 1 else values.unsqueeze(1)  # [groups, size]
        return torch.linalg.vector_norm(groups, dim=1).sum() * groups.shape[1] ** 0.5
