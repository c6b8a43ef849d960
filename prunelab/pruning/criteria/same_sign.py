"""The magnitude of weights that have kept their initial sign."""

from torch import Tensor

from prunelab.pruning.criteria.base import Criterion, Evidence


class SameSign(Criterion):
    """Score a weight by |w| if it has the sign that it had before any training, else by 0.

    The mask that is left makes of the initial weights a network far better than chance, without training: `rewind=0`
    and no fine-tuning.

    Use it to study masks of untrained weights, with `rewind=0` and `finetune.epochs=0`.

    Source: Zhou et al. 2019, "Deconstructing lottery tickets: zeros, signs, and the supermask", the mask criterion
        "large final, same sign", arXiv 1905.01067, section 5.
    """

    needs_initial = True

    def __call__(self, evidence: Evidence) -> list[Tensor]:
        """Return the scores."""
        pairs = zip(evidence.values, evidence.initial, strict=True)
        return [value.abs() * (value.sign() == initial.sign()) for value, initial in pairs]
