"""Erdős–Rényi-Kernel: small layers stay denser."""

from fractions import Fraction

import torch

from prunelab.pruning.allocation.uniform import Uniform


class ERK(Uniform):
    """Prune so that a tensor's density is proportional to the sum of its dimensions ÷ their product.

    In all tensors together round(amount · n) of n units go; a density never exceeds 1.

    Use it for sparse training and for pruning at initialisation, where scores of different layers cannot be
    compared.

    Source: Evci et al. 2020, "Rigging the lottery", section 3(1), arXiv 1911.11134; for Linear layers Mocanu et al.
        2018, eq. 3, arXiv 1707.04780.
    """

    def share(self, shape: torch.Size, units: int) -> Fraction:
        """Return units · Σ ÷ Π of the tensor's dimensions: for single weights the sum of the dimensions."""
        return Fraction(units * sum(shape), shape.numel())
