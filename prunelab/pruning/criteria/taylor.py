"""Taylor: the squared change of the loss by the removal of a weight, to first order."""

from torch import Tensor

from prunelab.pruning.criteria.base import Batch, Evidence, exact, gradient, mean


def taylor(evidence: Evidence, *, examples: int = 1024) -> list[Tensor]:
    """Score a weight by (g·w)², averaged over batches; g = ∂L/∂w of the batch's mean loss.

    Setting w to 0 changes the loss by −g·w to first order. Squared in each batch, effects of opposite sign in two
    batches do not cancel, as they do in `snip`. With `granularity=channel granularity.n=1` a channel's score is the
    sum of its weights' contributions, Σ (g·w)², not the paper's joint one, (Σ g·w)².

    Use it for channels of a trained network, or wherever the training loss matters more than the size of the
    weights.

    Args:
        examples: whole number ≥ 1 of training examples.

    Returns:
        Scores ≥ 0 in float64: the square of a small product would be 0 in float32.

    Raises:
        ConfigError: if `examples` is out of range.

    Source: Molchanov et al. 2019, "Importance estimation for neural network pruning", section 3, arXiv 1906.10771;
    first for activations in Molchanov et al. 2017, arXiv 1611.06440.
    """

    def squared(batch: Batch) -> list[Tensor]:
        pairs = zip(gradient(evidence, batch), evidence.weights, strict=True)
        return [(exact(slope) * exact(weight)).square() for slope, weight in pairs]

    return mean(evidence, evidence.batches(examples), squared, each_example=False)
