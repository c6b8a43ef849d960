"""Distillation: the dense network teaches the pruned one while it is fine-tuned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.training.loop import Routine


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(p ‖ q), the mean over the batch, with p = softmax(teacher / T) and q = softmax(student / T).

    The slope of the KL term falls as 1/T²; the factor keeps its weight beside the cross-entropy, whatever T is.

    Args:
        student: logits, [batch, classes].
        teacher: logits of the same shape.
        temperature: T > 0; the higher, the more counts what the teacher says of the wrong classes.

    Source: Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network", §2, arXiv 1503.02531.
    """
    log_q, log_p = F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


class Distillation(Routine):
    """Descends (1 − alpha) · cross-entropy + alpha · `divergence` from a teacher of the same architecture.

    The teacher is in eval mode and never changes. It is no part of the checkpoint: its weights are those of a stage
    that is there.

    Args:
        teacher: the dense network, which shares nothing with the one that is trained.
        alpha: in [0, 1]; 1: the teacher alone.
        temperature: > 0.

    Source: Hinton, Vinyals & Dean 2015, §2, arXiv 1503.02531.
    """

    def __init__(self, teacher: nn.Module, alpha: float, temperature: float) -> None:
        self.teacher, self.alpha, self.temperature = teacher.eval().requires_grad_(False), alpha, temperature

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Mixes the loss so far with what the teacher says of the same inputs."""
        with torch.no_grad():
            taught = self.teacher(inputs)
        return (1 - self.alpha) * loss + self.alpha * divergence(logits, taught, self.temperature)
