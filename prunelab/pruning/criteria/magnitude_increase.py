"""How much training made a weight grow."""

from __future__ import annotations

from torch import Tensor

from prunelab.pruning.criteria.base import Evidence, exact, shifted


def magnitude_increase(evidence: Evidence) -> list[Tensor]:
    """|w| − |w_initial|, shifted so that the smallest is 0.

    w_initial is the weight before any training. Where there was none (train.epochs=0), all scores are equal, and the
    first weights of each tensor go.

    Returns:
        Scores ≥ 0 in float64. Their zero means nothing, so neither do sums of them: not for channels.

    Source: Zhou et al. 2019, "Deconstructing lottery tickets: zeros, signs, and the supermask", the mask criterion
    "magnitude increase", arXiv 1905.01067.
    """
    pairs = zip(evidence.weights, evidence.initial, strict=True)
    return shifted([exact(weight).abs() - exact(initial).abs() for weight, initial in pairs])
