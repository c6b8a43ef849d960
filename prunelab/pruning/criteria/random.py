"""The control: a random score."""

from __future__ import annotations

import torch
from torch import Tensor

from prunelab.pruning.criteria.base import Evidence


def random(evidence: Evidence) -> list[Tensor]:
    """Uniform in [0, 1), whatever the weight: what a criterion must beat.

    Drawn on the CPU from torch's generator, which the experiment seeds, so that every device prunes the same weights.

    Source: the baseline of Blalock et al. 2020, "What is the state of neural network pruning?", arXiv 2003.03033.
    """
    return [torch.rand(weight.shape).to(weight.device) for weight in evidence.weights]
