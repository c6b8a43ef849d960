"""Optimal brain damage: the increase of the loss by the removal of a weight, from the curvature."""

import torch
from torch import Tensor

from prunelab.errors import ConfigError, at_least_one
from prunelab.pruning.criteria.base import Evidence, exact, gradient, hessian_product, mean


def obd(evidence: Evidence, *, hessian: str = "fisher", examples: int = 256, samples: int = 8) -> list[Tensor]:
    """Score a weight by ½ h w², the loss's increase when w becomes 0; h: diagonal entry of the loss's Hessian.

    The formula holds where training has converged (g ≈ 0), and neglects the off-diagonal entries of the Hessian.

    Use it on a converged network if little or no fine-tuning follows.

    Args:
        hessian: `fisher`: mean of g² over single examples, the diagonal of the empirical Fisher, which equals the
            Hessian's for a model that fits the labels' distribution. `hutchinson`: |mean of v ⊙ H v| over random
            vectors v of ±1.
        examples: whole number ≥ 1 of training examples; `fisher` runs one backward pass for each of them.
        samples: whole number ≥ 1 of vectors v, drawn on the CPU from torch's generator; `fisher` ignores it.

    Returns:
        Scores ≥ 0 in float64.

    Raises:
        ConfigError: if an option is out of range, or if torch has no second derivative of a part of the network.

    Source: LeCun, Denker & Solla 1990, "Optimal brain damage", section 2; the Fisher: Theis et al. 2018,
    arXiv 1801.05787; the estimator: Bekas, Kokiopoulou & Saad 2007, "An estimator for the diagonal of a matrix".
    """
    if hessian == "fisher":
        batches = evidence.batches(examples)
        singles = (one for x, y in batches for one in zip(x.split(1), y.split(1), strict=True))
        curvatures = mean(evidence, singles, lambda one: [exact(g).square() for g in gradient(evidence, one)])
    elif hessian == "hutchinson":
        curvatures = _hutchinson(evidence, examples, at_least_one("criterion.samples", samples))
    else:
        raise ConfigError(f"criterion.hessian={hessian}: must be fisher or hutchinson")
    return [h * exact(weight).square() / 2 for h, weight in zip(curvatures, evidence.weights, strict=True)]


def _hutchinson(evidence: Evidence, examples: int, samples: int) -> list[Tensor]:
    """Return |mean over samples of v ⊙ H v|: E[v_i v_j] is 1 for i = j, else 0, which leaves the diagonal of H."""
    totals = [torch.zeros_like(exact(weight)) for weight in evidence.weights]
    for _ in range(samples):
        signs = [torch.randint(2, mask.shape) * 2 - 1 for mask in evidence.masks]
        # Pruned weights are no part of the network; in v they would only add noise.
        vector = [sign.to(mask.device) * mask for sign, mask in zip(signs, evidence.masks, strict=True)]
        for total, v, product in zip(totals, vector, hessian_product(evidence, vector, examples), strict=True):
            total += v.to(product) * product
    return [(total / samples).abs() for total in totals]
