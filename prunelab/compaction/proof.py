"""Proof that two networks compute the same: both are run on the same inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.compaction import probes
from prunelab.compaction.probes import Inputs
from prunelab.runtime.eval_mode import in_eval_mode

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Proof:
    """How far the outputs of two networks are apart.

    Attributes:
        largest_difference: absolute, in the networks' own precision; infinity where an output is NaN.
        same_classes: whether the largest output is the same one for every input.
        in_float64: the largest difference in float64, where there is almost no rounding; None: not computed, or the
            networks do not run in float64.
        largest_output: the largest absolute output of the first network.
        inputs: how many inputs were compared.
        agree: same classes, and outputs within 1e-5 (half precision: 1e-2), relative to the largest output if above 1.
    """

    largest_difference: float
    same_classes: bool
    in_float64: float | None
    largest_output: float
    inputs: int
    agree: bool

    def __str__(self) -> str:
        """One line."""
        classes = "the same class for all" if self.same_classes else "NOT the same classes"
        exact = "" if self.in_float64 is None else f", in float64 {self.in_float64:.2g}"
        return f"on {self.inputs:,} inputs: {classes}; largest difference {self.largest_difference:.2g}{exact}"

    def __add__(self, other: Proof) -> Proof:
        """Return the proof on the inputs of both; it holds if both hold."""
        exact = [found.in_float64 for found in (self, other) if found.in_float64 is not None]
        return Proof(
            max(self.largest_difference, other.largest_difference),
            self.same_classes and other.same_classes,
            max(exact, default=None),
            max(self.largest_output, other.largest_output),
            self.inputs + other.inputs,
            self.agree and other.agree,
        )


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32 in the context: with its 10 bits of mantissa two orders of the same sum differ by 1e-3."""
    cudnn: Any = torch.backends.cudnn  # its parts have no types
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@full_precision()
@torch.no_grad()
def prove(dense: nn.Module, compact: nn.Module, inputs: Tensor | Iterable[Inputs], double: bool = True) -> Proof:
    """Run both networks, in eval mode, on all inputs.

    Args:
        inputs: [n, …], or batches, at least one: tensors, or tuples or dicts of the networks' arguments.
        double: whether to run both in float64 too, which takes about three times as long.
    """
    precise = [deepcopy(model).double().eval() for model in (dense, compact)] if double else None
    difference, largest, exact, same, count = 0.0, 0.0, 0.0, True, 0
    with in_eval_mode(dense), in_eval_mode(compact):
        for batch in [inputs] if isinstance(inputs, Tensor) else inputs:
            one, other = (probes.outputs(model, [batch]) for model in (dense, compact))
            difference = max(difference, probes.largest_difference(one, other))
            largest = max(largest, *map(probes.size, one))
            same = same and all(_same_classes(a, b) for a, b in zip(one, other, strict=True))
            count += len(probes.tensors(batch)[0])
            if precise is not None:
                try:
                    twice = [probes.outputs(model, [probes.double(batch)]) for model in precise]
                    exact = max(exact, probes.largest_difference(*twice))
                except probes.FAILS:  # a network that converts to a type of its own does not run in float64
                    precise = None
    agree = same and difference <= max(TOLERANCE, probes.tolerance(dense)) * max(1.0, largest)
    return Proof(difference, same, None if precise is None else exact, largest, count, agree)


def _same_classes(one: Tensor, other: Tensor) -> bool:
    several = one.dim() > 1 and one.shape[1] > 0 and one.is_floating_point()
    return not several or bool((one.argmax(1) == other.argmax(1)).all())
