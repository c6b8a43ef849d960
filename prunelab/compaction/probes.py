"""Runs on random inputs: which channels are constant, and whether two networks agree.

A ReLU whose input is negative for all random inputs looks constant but is not. So every output of a layer that varies
is replaced by noise of either sign, on three scales, before the next layer reads it. What is constant even then does
not depend on the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunelab.compaction.constant_layer import NORMS
from prunelab.costs.counts import CONVS, TRANSPOSED

SCALES = (1.0, 1e3, 1e6)
BATCH = 4
MOST, VALUES = 16, 1 << 17  # examples, and input values, that are run to find constants
ROUNDING = 1e-12  # relative rounding error of a sum in another order, in float64
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}  # of outputs; absolute up to 1, then relative
LAYERS = (*CONVS, *TRANSPOSED, nn.Linear)
WIDE = (nn.RNNBase, nn.MultiheadAttention)  # their outputs are taken to vary

Range = tuple[Tensor, Tensor]  # smallest and largest value, [channels]


def probes(example: Tensor, seed: int = 0) -> list[Tensor]:
    """Return random inputs like the example, a batch of 4 on each of three scales, and the example itself.

    Inputs that are no floats, such as token numbers, are drawn from the example's own values.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, *example.shape[1:])
    if not example.is_floating_point():
        return [_drawn_from(example, shape, generator) for _ in SCALES] + [example]
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in SCALES]
    found = [(x * scale).to(example) for x, scale in zip(drawn, (1.0, 3.0, 0.1), strict=True)]
    return [*found, example]


def _drawn_from(example: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    places = torch.randint(example.numel(), shape, generator=generator, device=generator.device)
    return example.flatten()[places.to(example.device)]


def double(x: Tensor) -> Tensor:
    """Return floats in float64, and other inputs as they are."""
    return x.double() if x.is_floating_point() else x


def constants(model: nn.Module, example: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Find the channels that are the same for all inputs and at all positions, in layers' inputs and outputs.

    Args:
        model: in eval mode.
        example: a batch of inputs, [n, …].

    Returns:
        By the names of Conv, Linear and BatchNorm layers: the constants of their inputs, and of their outputs, each
        [channels], NaN where a channel varies. A layer that is never called is in neither.
    """
    given: dict[str, Range] = {}
    made: dict[str, Range] = {}
    generator = torch.Generator(example.device).manual_seed(1)
    half = max(BATCH, min(MOST, VALUES // max(example[0].numel(), 1))) // 2
    for scale in SCALES:
        shape = (2 * half, *example.shape[1:])
        if example.is_floating_point():
            x = torch.randn(shape, generator=generator, device=example.device).to(example)
        else:
            x = _drawn_from(example, shape, generator)
        with _watching(model, given, made, generator, scale), torch.no_grad():
            model(x)
    return tuple({name: _constant(*span) for name, span in found.items()} for found in (given, made))  # type: ignore[return-value]


@contextmanager
def _watching(
    model: nn.Module, given: dict[str, Range], made: dict[str, Range], generator: torch.Generator, scale: float
) -> Iterator[None]:
    names = {module: name for name, module in model.named_modules()}

    def read(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs:
            _widen(given, names[module], _by_channel(module, inputs[0]))

    def write(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        noise = scale * torch.randn(first.shape, generator=generator, device=first.device).to(first)
        half = len(noise) // 2
        noise[len(noise) - half :] = -noise[:half]  # either sign in every channel, so that no ReLU stays at 0
        if isinstance(module, WIDE):
            return (noise, *output[1:])
        values = _by_channel(module, output)
        _widen(made, names[module], values)
        if isinstance(module, NORMS):
            return output
        varies = _constant(values.amin(1), values.amax(1)).isnan()  # [channels]
        # Replaced, not added: the output may be so large, and of one sign, that noise would not change the next layer.
        return torch.where(
            varies.view([-1 if d == _dim(module, output) else 1 for d in range(output.dim())]), noise, output
        )

    handles: list[RemovableHandle] = []
    for module in model.modules():
        if isinstance(module, (*LAYERS, *NORMS, *WIDE)):
            handles.append(module.register_forward_hook(write))
        if isinstance(module, LAYERS):
            handles.append(module.register_forward_pre_hook(read))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _dim(module: nn.Module, x: Tensor) -> int:
    """The dimension of the channels."""
    return x.dim() - 1 if isinstance(module, nn.Linear) else 1


def _by_channel(module: nn.Module, x: Tensor) -> Tensor:
    return x.transpose(0, _dim(module, x)).flatten(1)  # [channels, all else]


def _widen(spans: dict[str, Range], name: str, values: Tensor) -> None:
    least, greatest = values.amin(1), values.amax(1)
    if name in spans:
        least, greatest = torch.minimum(spans[name][0], least), torch.maximum(spans[name][1], greatest)
    spans[name] = least, greatest


def _constant(least: Tensor, greatest: Tensor) -> Tensor:
    # NaN also for NaN and infinity, whose comparisons are false.
    rounding = ROUNDING if least.dtype == torch.float64 else 0.0
    same = greatest - least <= rounding * greatest.abs()
    return torch.where(same, greatest, torch.full_like(greatest, torch.nan))


def outputs(model: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    """Return a model's output for each batch; the model is in eval mode."""
    with torch.no_grad():
        return [model(x.clone()) for x in inputs]  # a model may write on its input


def agree(one: list[Tensor], other: list[Tensor]) -> bool:
    """Return whether two networks' outputs are the same, apart from rounding."""
    return all(
        a.shape == b.shape and bool(((a - b).abs() <= TOLERANCE.get(a.dtype, 1e-5) * a.abs().amax().clamp(min=1)).all())
        for a, b in zip(one, other, strict=True)
    )


def largest_difference(one: list[Tensor], other: list[Tensor]) -> float:
    """Return the largest absolute difference of two networks' outputs; 0 without outputs."""
    return max((float((a - b).abs().max()) for a, b in zip(one, other, strict=True) if a.numel()), default=0.0)
