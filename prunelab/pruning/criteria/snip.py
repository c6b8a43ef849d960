"""SNIP: how much the loss depends on whether a connection is there."""

from torch import Tensor

from prunelab.pruning.criteria.base import Evidence, exact, mean_gradient


def snip(evidence: Evidence, *, examples: int = 1024) -> list[Tensor]:
    """Score a weight by |g·w|, g = ∂L/∂w of the mean loss: |∂L/∂c| of a gate c = 1 on the weight.

    Made for pruning at initialisation (train.epochs=0). The paper divides by the sum of all scores, which changes no
    order and is left out.

    Use it to prune at initialisation, `train.epochs=0`, up to about 95% sparsity; beyond, `synflow` keeps layers
    alive.

    Args:
        examples: whole number ≥ 1 of training examples.

    Raises:
        ConfigError: if `examples` is out of range.

    Source: Lee et al. 2019, "SNIP: single-shot network pruning based on connection sensitivity", section 4,
    arXiv 1810.02340.
    """
    slopes = mean_gradient(evidence, examples)
    return [(slope * exact(weight)).abs() for slope, weight in zip(slopes, evidence.weights, strict=True)]
