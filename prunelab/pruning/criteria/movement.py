"""Whether training moved a weight away from zero or towards it, by first-order information."""

from __future__ import annotations

from torch import Tensor

from prunelab.config.schema import ConfigError
from prunelab.pruning.criteria.base import Evidence, exact, shifted, watches


@watches("movement")
def movement(evidence: Evidence) -> list[Tensor]:
    """Σ −∂L/∂w · w over the steps of training since the last pruning, shifted so that the smallest is 0.

    Positive where gradient descent makes |w| grow, negative where it makes it shrink: a small weight on its way up is
    kept and a large one on its way down goes. Made for fine-tuning a pretrained network.

    Returns:
        Scores ≥ 0 in float64. Their zero means nothing, so neither do sums of them: not for channels.

    Raises:
        ConfigError: if there was no training to go by.

    Source: Sanh, Wolf & Rush 2020, "Movement pruning: adaptive sparsity by fine-tuning", section 4,
    arXiv 2005.07683; here without the scores' own learning rate, which changes no order.
    """
    if evidence.movement is None:
        raise ConfigError(
            "movement scores how training moves the weights, so training must come before pruning; "
            "train.epochs=0 leaves nothing to go by"
        )
    return shifted([exact(moved) for moved in evidence.movement])
