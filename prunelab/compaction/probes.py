"""What a network shows when it is run: which channels are always the same, and whether two networks agree.

A ReLU that no random input wakes up looks constant, but is not. So whatever a layer gives that varies at all is
replaced by noise of either sign, on three scales, before the next layer reads it: what is constant then, depends on
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunelab.compaction.constant import CONVS, NORMS

SCALES = (1.0, 1e3, 1e6)
BATCH = 4
MOST, VALUES = 16, 1 << 17  # examples that are looked at for constants, fewer if they are large
ROUNDING = 1e-12  # of sums of equal numbers in another order, relative, in float64
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}  # how far outputs may be apart, absolute up to 1, then relative
LAYERS = (*CONVS, nn.modules.conv._ConvTransposeNd, nn.Linear)
WIDE = (nn.RNNBase, nn.MultiheadAttention)  # their outputs are always taken to vary

Range = tuple[Tensor, Tensor]  # least and greatest, [channels]


def probes(example: Tensor, seed: int = 0) -> list[Tensor]:
    """Random inputs of the example's shape and kind, a batch of each scale, and the example itself."""
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, *example.shape[1:])
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in SCALES]
    found = [(x * scale).to(example) for x, scale in zip(drawn, (1.0, 3.0, 0.1), strict=True)]
    return [*found, example]


def constants(model: nn.Module, example: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The channels that are the same for all inputs and at all positions, where layers read and where they write.

    Args:
        model: in eval mode.
        example: [n, …].

    Returns:
        By the names of Conv, Linear and BatchNorm layers, [channels]: the constants of what they are given, and of what
        they give; NaN where it varies. A layer that is never called is in neither.
    """
    given: dict[str, Range] = {}
    made: dict[str, Range] = {}
    generator = torch.Generator(example.device).manual_seed(1)
    half = max(BATCH, min(MOST, VALUES // max(example[0].numel(), 1))) // 2
    for scale in SCALES:
        x = torch.randn((2 * half, *example.shape[1:]), generator=generator, device=example.device)
        with _watching(model, given, made, generator, scale), torch.no_grad():
            model(x.to(example))
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
        noise[len(noise) - half :] = -noise[:half]  # of either sign in every channel, or a ReLU might never be woken up
        if isinstance(module, WIDE):
            return (noise, *output[1:])
        values = _by_channel(module, output)
        _widen(made, names[module], values)
        if isinstance(module, NORMS):
            return output
        lives = _constant(values.amin(1), values.amax(1)).isnan()  # [channels]
        # Not added: what comes from noise below may be so large, and of one sign, that nothing would change it.
        return torch.where(
            lives.view([-1 if d == _dim(module, output) else 1 for d in range(output.dim())]), noise, output
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
    """Where the channels are."""
    return x.dim() - 1 if isinstance(module, nn.Linear) else 1


def _by_channel(module: nn.Module, x: Tensor) -> Tensor:
    return x.transpose(0, _dim(module, x)).flatten(1)  # [channels, all else]


def _widen(spans: dict[str, Range], name: str, values: Tensor) -> None:
    least, greatest = values.amin(1), values.amax(1)
    if name in spans:
        least, greatest = torch.minimum(spans[name][0], least), torch.maximum(spans[name][1], greatest)
    spans[name] = least, greatest


def _constant(least: Tensor, greatest: Tensor) -> Tensor:
    # Also NaN for NaN and infinity, which compare as nothing.
    rounding = ROUNDING if least.dtype == torch.float64 else 0.0
    same = greatest - least <= rounding * greatest.abs()
    return torch.where(same, greatest, torch.full_like(greatest, torch.nan))


def outputs(model: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    """What a model in eval mode says of each batch."""
    with torch.no_grad():
        return [model(x) for x in inputs]


def agree(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether two networks' outputs are the same but for rounding."""
    return all(
        a.shape == b.shape and bool(((a - b).abs() <= TOLERANCE.get(a.dtype, 1e-5) * a.abs().amax().clamp(min=1)).all())
        for a, b in zip(one, other, strict=True)
    )


def largest_difference(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest absolute difference of two networks' outputs; 0 for none."""
    return max((float((a - b).abs().max()) for a, b in zip(one, other, strict=True) if a.numel()), default=0.0)
