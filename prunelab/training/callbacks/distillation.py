"""Distillation: the dense network teaches the pruned network during fine-tuning."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.training.callbacks.base import Callback


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T² · KL(p ‖ q), the mean over the batch, with p = softmax(teacher / T) and q = softmax(student / T).

    The gradient of the KL term falls as 1/T²; the factor T² keeps its weight relative to the cross-entropy.

    Args:
        student: logits, [batch, classes].
        teacher: logits of the same shape.
        temperature: T > 0; at a higher temperature the teacher's wrong classes count more.

    Source: Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network", §2, arXiv 1503.02531.
    """
    log_q, log_p = F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


class Distillation(Callback):
    """Minimise (1 − alpha) · cross-entropy + alpha · `divergence` from a teacher.

    The teacher is in eval mode and never changes. Checkpoints do not store it: its weights are those of a stage.

    Use it, by `finetune.distill.alpha` and `finetune.distill.temperature`, if fine-tuning is short, or the labels
    are few or noisy.

    Args:
        teacher: the dense network; it shares no tensors with the network that is trained.
        alpha: in [0, 1]; 1: only the teacher counts.
        temperature: > 0.

    Source: Hinton, Vinyals & Dean 2015, §2, arXiv 1503.02531.
    """

    def __init__(self, teacher: nn.Module, alpha: float, temperature: float) -> None:
        self.teacher, self.alpha, self.temperature = teacher.eval().requires_grad_(False), alpha, temperature

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Mix the loss with the divergence from the teacher's logits for the same inputs."""
        with torch.no_grad():
            taught = self.teacher(inputs)
        return (1 - self.alpha) * loss + self.alpha * divergence(logits, taught, self.temperature)
