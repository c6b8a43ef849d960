"""GraSP: how the removal of a weight would change the norm of the gradient."""

from torch import Tensor

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.base import Evidence, exact, hessian_product, mean_gradient, shifted


def grasp(evidence: Evidence, *, examples: int = 1024, temperature: float = 200.0) -> list[Tensor]:
    """Score weights by θ ⊙ (H g), shifted so that the smallest is 0; g, H: gradient and Hessian of the mean loss.

    Setting a weight to 0 changes ½‖g‖² by S = −θ ⊙ (H g), to first order. The paper removes the weights of highest S:
    those whose removal adds to the gradient's norm, or takes least from it. Here the smallest score goes, so the score
    is −S. Pruned weights count neither in g nor in the norm. Made for pruning at initialisation (train.epochs=0).

    Use it to prune at initialisation, `train.epochs=0`, at high sparsity, where `snip` may cut a layer off. It
    needs second derivatives.

    Args:
        examples: whole number ≥ 1 of training examples.
        temperature: number > 0 that divides the logits; 200 in the paper's code.

    Returns:
        Scores ≥ 0 in float64. The shift is arbitrary, so they cannot be added up to scores of channels.

    Raises:
        ConfigError: if an option is out of range, or if torch has no second derivative of a part of the network.

    Source: Wang et al. 2020, "Picking winning tickets before training by preserving gradient flow", section 4,
    arXiv 2002.07376; github.com/alecwangcq/GraSP.
    """
    if not temperature > 0:
        raise ConfigError(f"criterion.temperature={temperature}: must be a number > 0")
    slopes = mean_gradient(evidence, examples, temperature)
    flow = [slope * mask.to(slope) for slope, mask in zip(slopes, evidence.masks, strict=True)]
    products = hessian_product(evidence, flow, examples, temperature)
    return shifted([exact(weight) * product for weight, product in zip(evidence.weights, products, strict=True)])
