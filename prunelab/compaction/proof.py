"""Proof that two networks compute the same: they are run on the same inputs."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prunelab.pruning import masks

TOLERANCE = 1e-5


class Proof(NamedTuple):
    """How far two networks' outputs are apart.

    Attributes:
        largest_difference: absolute, in the networks' own precision.
        same_classes: whether they predict the same class for every input.
        in_float64: the largest difference of both in float64, where there is next to no rounding; None: not looked at.
        largest_output: absolute, of the first network.
        inputs: how many were looked at.
    """

    largest_difference: float
    same_classes: bool
    in_float64: float | None
    largest_output: float
    inputs: int

    @property
    def agree(self) -> bool:
        """Within 1e-5 (of the largest output, if that is greater than 1), and on every class."""
        return self.same_classes and self.largest_difference <= TOLERANCE * max(1.0, self.largest_output)


def prove(dense: nn.Module, compact: nn.Module, inputs: Tensor | Iterable[Tensor], double: bool = True) -> Proof:
    """Runs both networks, in eval mode, on all inputs.

    Args:
        dense: with or without masks.
        inputs: [n, …], or batches of such; at least one.
        double: whether to run both in float64 too, which takes about three times as long.
    """
    pair = [masks.plain_copy(model).eval() for model in (dense, compact)]
    precise = [deepcopy(model).double() for model in pair] if double else None
    batches = [inputs] if isinstance(inputs, Tensor) else inputs
    difference, largest, exact, same, count = 0.0, 0.0, 0.0, True, 0
    with torch.no_grad():
        for batch in batches:
            one, other = (model(batch) for model in pair)
            difference = max(difference, float((one - other).abs().max()))
            largest = max(largest, float(one.abs().max()))
            same = same and bool((one.argmax(1) == other.argmax(1)).all())
            count += len(batch)
            if precise is not None:
                left, right = (model(batch.double()) for model in precise)
                exact = max(exact, float((left - right).abs().max()))
    return Proof(difference, same, exact if double else None, largest, count)
