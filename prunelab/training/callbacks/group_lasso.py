"""Group lasso: whole output channels become small enough to be pruned by a threshold."""

import torch
from torch import Tensor

from prunelab.errors import ConfigError
from prunelab.training.callbacks.base import Callback, Phase, check_strength


class GroupLasso(Callback):
    """Add strength · Σ √size · ‖w_g‖₂ to the loss, where each index of dimension `dim` of a prunable tensor is a group.

    The factor √size makes a weight cost the same in groups of every size. Channels come close to zero but do not reach
    it: `strategy=threshold granularity=channel` prunes those that are small enough.

    Use it if whole channels are to go, with `compact=true` to remove them.

    Args:
        strength: in nats of cross-entropy per unit of weight, ≥ 0.
        dim: 0: output channels (rows of recurrent and attention weights); 1: input channels.

    Raises:
        ConfigError: if the strength is negative, a tensor lacks the dimension, or there is no dense training.

    Source: Yuan & Lin 2006, "Model selection and estimation in regression with grouped variables", eq. 2.1; Wen et al.
    2016, "Learning structured sparsity", arXiv 1608.03665, eq. 2.
    """

    def __init__(self, phase: Phase, strength: float = 1e-4, dim: int = 0) -> None:
        check_strength(phase, "group_lasso", strength)
        self.weights, self.strength, self.dim = [item.parameter for item in phase.masked()], strength, dim
        for item in phase.masked():
            shape = list(item.parameter.shape)
            if not -len(shape) <= dim < len(shape):
                raise ConfigError(f"regularizer.dim={dim}: must be a dimension of {item.name}, whose shape is {shape}")

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Add the penalty; its gradient at a group of zeros is zero."""
        return loss + self.strength * torch.stack([self._norms(weight) for weight in self.weights]).sum()

    def _norms(self, weight: Tensor) -> Tensor:
        groups = weight.movedim(self.dim, 0).flatten(1) if weight.dim() > 1 else weight.unsqueeze(1)  # [groups, size]
        return torch.linalg.vector_norm(groups, dim=1).sum() * groups.shape[1] ** 0.5
