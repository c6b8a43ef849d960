"""Random scores: the baseline that every criterion must beat."""

import torch
from torch import Tensor

from prunelab.pruning.criteria.base import Evidence


def random(evidence: Evidence) -> list[Tensor]:
    """Score every weight by a uniform random number in [0, 1).

    Drawn on the CPU from torch's generator, which the experiment seeds, so that every device prunes the same weights.

    Use it as the baseline: a criterion that is not clearly better tells nothing. Sparse training starts from it,
    too.

    Source: the baseline of Blalock et al. 2020, "What is the state of neural network pruning?", arXiv 2003.03033.
    """
    return [torch.rand(value.shape).to(value.device) for value in evidence.values]
