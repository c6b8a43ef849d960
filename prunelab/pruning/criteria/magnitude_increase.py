"""How much training has increased the absolute value of a weight."""

from torch import Tensor

from prunelab.pruning.criteria.base import Criterion, Evidence, exact, shifted


class MagnitudeIncrease(Criterion):
    """Score a weight by |w| − |w_initial|, shifted so that the smallest score is 0.

    w_initial is the weight before any training. Without training (train.epochs=0) all scores are equal, and the first
    weights of each ranking are pruned (by `global`, whole tensors). Scores are in float64; the shift is arbitrary, so
    they cannot be added up to scores of channels.

    Use it for lottery tickets, as an alternative to `magnitude` that does not favour weights which were drawn
    large.

    Source: Zhou et al. 2019, "Deconstructing lottery tickets: zeros, signs, and the supermask", the mask criterion
        "magnitude increase", arXiv 1905.01067.
    """

    needs_initial = True

    def __call__(self, evidence: Evidence) -> list[Tensor]:
        """Return the scores."""
        pairs = zip(evidence.values, evidence.initial, strict=True)
        return shifted([exact(value).abs() - exact(initial).abs() for value, initial in pairs])
