"""Runs on random inputs: which channels are constant, and whether two networks agree.

A ReLU whose input is negative for all random inputs looks constant but is not. So every output of a layer that varies
is replaced by noise of either sign, on three scales, before the next layer reads it. What is constant even then does
not depend on the input.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass
from math import inf, isfinite
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from prunelab.compaction.constant_layer import NORMS
from prunelab.compaction.layer_weights import LAYERS

SCALES = (1.0, 1e3, 1e6)
BATCH = 4
MOST, VALUES = 16, 1 << 17  # examples, and input values, that are run to find constants
ROUNDING = 1e-12  # relative rounding error of a sum in another order, in float64
# What a network raises that cannot be computed in another form.
FAILS = (RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError, ArithmeticError)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}  # of outputs, relative; in float32 absolute up to 1
COARSE = 1e-2  # for half precision
WIDE = (nn.RNNBase, nn.MultiheadAttention)  # their outputs are taken to vary

Inputs: TypeAlias = Any  # a tensor, a tuple of positional or a dict of keyword arguments; tensors may be nested in it
Range = tuple[Tensor, Tensor]  # smallest and largest value, [channels]


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, dicts and dataclasses, in order."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        value = vars(value)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def with_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return nested tuples, lists and dicts with each tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: with_tensors(change, part) for key, part in value.items()}
    return [with_tensors(change, part) for part in value] if isinstance(value, (list, tuple)) else value


def run(model: nn.Module, inputs: Inputs, copy: bool = True) -> Any:
    """Return a model's output. It gets copies of the tensors, since it may write on them."""
    inputs = with_tensors(torch.clone, inputs) if copy else inputs
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(inputs) if isinstance(inputs, Tensor) else model(*inputs)


def probes(example: Inputs) -> list[Inputs]:
    """Return random inputs like the example, a batch of 4 on each of three scales, and the example itself.

    Inputs that are no floats, such as token numbers, are drawn from the example's own values.
    """
    generator = torch.Generator().manual_seed(0)
    return [*(_drawn(example, BATCH, scale, generator) for scale in (1.0, 3.0, 0.1)), example]


def _drawn(example: Inputs, count: int, scale: float, generator: torch.Generator) -> Inputs:
    def draw(x: Tensor) -> Tensor:
        if not x.dim() or not x.numel():
            return x
        shape = (count, *x.shape[1:])
        if x.is_floating_point():
            return (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(x)
        return x.flatten()[torch.randint(x.numel(), shape, generator=generator).to(x.device)]

    return with_tensors(draw, example)  # type: ignore[no-any-return]


def double(x: Inputs) -> Inputs:
    """Return floats in float64, and other inputs as they are."""
    return with_tensors(lambda x: x.double() if x.is_floating_point() else x, x)  # type: ignore[no-any-return]


def constants(model: nn.Module, example: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Find the channels that are the same for all inputs and at all positions, in layers' inputs and outputs.

    Returns:
        By the names of Conv, Linear and BatchNorm layers: the constants of their inputs, and of their outputs, each
        [channels], NaN where a channel varies. A layer that is never called is in neither.
    """
    given: dict[str, Range] = {}
    made: dict[str, Range] = {}
    first = tensors(example)[0]
    generator, noise = torch.Generator().manual_seed(1), torch.Generator(first.device).manual_seed(1)
    half = max(BATCH, min(MOST, VALUES // max(first[:1].numel(), 1))) // 2
    for scale in SCALES:
        with _watching(model, given, made, noise, scale), torch.no_grad():
            run(model, _drawn(example, 2 * half, 1.0, generator))
    return tuple({name: _constant(*span) for name, span in found.items()} for found in (given, made))  # type: ignore[return-value]


@contextmanager
def _watching(
    model: nn.Module, given: dict[str, Range], made: dict[str, Range], generator: torch.Generator, scale: float
) -> Iterator[None]:
    names = {module: name for name, module in model.named_modules()}

    def read(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0].data if inputs and isinstance(inputs[0], PackedSequence) else inputs[0] if inputs else None
        if isinstance(x, Tensor):
            _widen(given, names[module], _by_channel(module, x))

    def write(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        if not isinstance(first, Tensor) or isinstance(output, PackedSequence):
            return output
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

    with ExitStack() as hooks:
        for module in names:
            if isinstance(module, (*LAYERS, *NORMS, *WIDE)):
                hooks.enter_context(module.register_forward_hook(write))
            if isinstance(module, (*LAYERS, nn.RNNBase)):
                hooks.enter_context(module.register_forward_pre_hook(read))
        yield


def _dim(module: nn.Module, x: Tensor) -> int:
    """The dimension of the channels."""
    return x.dim() - 1 if isinstance(module, (nn.Linear, nn.RNNBase)) else 1


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


def outputs(model: nn.Module, inputs: Iterable[Inputs]) -> list[Tensor]:
    """Return the tensors in a model's output for each batch; the model is in eval mode."""
    with torch.no_grad():
        return [tensor for x in inputs for tensor in tensors(run(model, x))]


def tolerance(model: nn.Module) -> float:
    """Return how far outputs may be apart by rounding: for the least precise of the network's parameters."""
    kinds = {x.dtype for x in model.parameters() if x.is_floating_point()}
    return max((TOLERANCE.get(kind, COARSE) for kind in kinds), default=TOLERANCE[torch.float32])


def agree(one: list[Tensor], other: list[Tensor], tolerance: float) -> bool:
    """Return whether two networks' outputs are the same, apart from rounding; never if there is NaN or infinity.

    In float64 the outputs' size counts, however small, since those of an untrained network may be 1e-20.
    """

    def same(a: Tensor, b: Tensor) -> bool:
        relative = max(tolerance, TOLERANCE.get(a.dtype, 0.0))
        allowed = relative * (size(a) if relative == TOLERANCE[torch.float64] else max(1.0, size(a)))
        return a.shape == b.shape and isfinite(difference := apart(a, b)) and difference <= allowed

    return len(one) == len(other) and all(map(same, one, other))


def apart(one: Tensor, other: Tensor) -> float:
    """Return the largest absolute difference; infinity where one is NaN, 0 for empty tensors."""
    one, other = (x if x.is_floating_point() or x.is_complex() else x.double() for x in (one, other))
    return float((one - other).abs().nan_to_num(nan=inf).max()) if one.numel() else 0.0


def size(x: Tensor) -> float:
    """Return the largest absolute number; 0 for an empty tensor."""
    return float(x.abs().max()) if x.numel() and x.dtype != torch.bool else 0.0


def largest_difference(one: list[Tensor], other: list[Tensor]) -> float:
    """Return the largest absolute difference of two networks' outputs; 0 without outputs."""
    return max((apart(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
