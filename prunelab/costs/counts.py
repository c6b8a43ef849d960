"""What a network costs, counted, not estimated: parameters, nonzeros, multiply-adds, and where they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from prunelab.pruning import masks, skipping

Row = dict[str, Any]
SHIFTED = "ShiftedWindowAttention"  # torchvision's; by name, since importing torchvision takes seconds


@dataclass(frozen=True)
class Layer:
    """A weight as it runs: `positions` is how often each of its elements is used for one example.

    Of an attention layer's joint projection of queries, keys and values, `rows` are those that are used so often.
    """

    name: str
    module: nn.Module
    positions: int
    parameter: str = "weight"
    rows: slice = field(default_factory=lambda: slice(None))

    @property
    def weight(self) -> Tensor:
        """The weight, as the network computes with it."""
        weight = getattr(self.module, self.parameter)
        assert isinstance(weight, Tensor)
        return weight[self.rows]


def layers(model: nn.Module, example: Tensor) -> list[Layer]:
    """The weights of Conv, Linear, recurrent and attention layers in the order in which they run; only those that run.

    Layers that a strategy removed count as what they are in the dense network: it is their weights that are zero.

    Args:
        example: one input with its batch dimension, [1, …].
    """
    found: list[Layer] = []
    names = {module: name for name, module in model.named_modules()}

    def record(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        if isinstance(module, nn.MultiheadAttention):
            used = _attention(module, inputs, keywords)
        else:
            used = _used(module, inputs[0] if inputs else keywords["input"], output)
        found.extend(replace(layer, name=f"{names[module]}.{layer.name}".strip(".")) for layer in used)

    counted = (*masks.PRUNABLE_TYPES, nn.RNNBase, nn.MultiheadAttention)
    hooks = [
        module.register_forward_hook(record, with_kwargs=True)
        for module in names
        if isinstance(module, counted) or type(module).__name__.startswith(SHIFTED)
    ]
    training = model.training
    try:
        with torch.no_grad(), skipping.all_run(model):
            model.eval()(example)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _used(module: nn.Module, given: Any, output: Any) -> Iterator[Layer]:
    """What one call of a module uses of its own weights. Names are relative to the module."""
    if isinstance(module, nn.modules.conv._ConvNd):
        transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)  # there, each input position is used once
        positions = given if transposed else output  # [n, channels, …], or [channels, …] without a batch
        yield Layer("", module, positions.numel() // positions.shape[-1 - len(module.kernel_size)])
    elif isinstance(module, nn.Linear):
        yield Layer("", module, _tokens(output))
    elif isinstance(module, nn.RNNBase):
        steps = _tokens(given.data if isinstance(given, PackedSequence) else given)
        for parameter in filter(partial(masks.is_prunable, module), module._flat_weights_names):
            yield Layer("", module, steps, parameter)
    else:  # [n, height, width, channels], padded to whole windows
        count, *size = given.shape[:3]
        windows: Any = module.window_size
        padded = (math.ceil(n / window) * window for n, window in zip(size, windows, strict=True))
        positions = count * math.prod(padded)
        for name in masks.READ_DIRECTLY[SHIFTED]:
            yield Layer(name, module.get_submodule(name), positions)


def _attention(module: nn.MultiheadAttention, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Iterator[Layer]:
    """Queries, keys, values and the output, each projected once per token; `out_proj` is never called itself."""
    given = dict(zip(("query", "key", "value"), inputs, strict=False)) | keywords
    queries, keys, values = (_tokens(given[name]) for name in ("query", "key", "value"))
    if module.in_proj_weight is None:
        for letter, positions in zip("qkv", (queries, keys, values), strict=True):
            yield Layer("", module, positions, f"{letter}_proj_weight")
    elif queries == keys:
        yield Layer("", module, queries, "in_proj_weight")
    else:  # queries, keys and values, one below the other
        yield Layer("", module, queries, "in_proj_weight", slice(module.embed_dim))
        yield Layer("", module, keys, "in_proj_weight", slice(module.embed_dim, None))
    yield Layer("out_proj", module.out_proj, queries)


def _tokens(x: Tensor) -> int:
    """How many vectors there are in [..., width]."""
    return x.numel() // x.shape[-1]


def cost(model: nn.Module, running: list[Layer]) -> Row:
    """The size columns of a round.

    Args:
        running: from `layers`.

    Returns:
        `sparsity`: zeros ÷ all over the prunable tensors. `sparsity_total`: the same over the whole model. `nonzero`,
        `parameters`: over the whole model. `compression_ratio`: parameters ÷ nonzero. `macs`: multiply-adds on the
        weights of `running` for one example, biases and products of activations (attention) not counted;
        `macs_nonzero`: those on nonzero weights.
        `theoretical_speedup`: macs ÷ macs_nonzero.

    Source: Blalock et al. 2020, "What is the state of neural network pruning?", arXiv 2003.03033.
    """
    pruned = list(masks.masked(model))
    effective = {(item.module, item.parameter): item.effective for item in pruned}
    total = nonzero = 0
    for module in model.modules():
        for key, value in module.named_parameters(recurse=False):
            tensor = effective.get((module, key.removesuffix("_orig")), value)
            total += tensor.numel()
            nonzero += int(torch.count_nonzero(tensor))
    macs = macs_nonzero = 0
    for layer in running:
        used = (layer.module, layer.parameter)
        weight = effective[used][layer.rows] if used in effective else layer.weight
        macs += weight.numel() * layer.positions
        macs_nonzero += int(torch.count_nonzero(weight)) * layer.positions
    return {
        "sparsity": masks.sparsity(pruned),
        "sparsity_total": 1 - nonzero / total,
        "nonzero": nonzero,
        "parameters": total,
        "compression_ratio": total / nonzero if nonzero else float("inf"),
        "macs": macs,
        "macs_nonzero": macs_nonzero,
        "theoretical_speedup": macs / macs_nonzero if macs_nonzero else float("inf"),
    }


def per_layer(model: nn.Module) -> Iterator[Row]:
    """One row a prunable tensor: `tensor`, `shape` (as 6x1x3x3), `nonzero`, `size`, `sparsity`."""
    for item in masks.masked(model):
        shape = tuple(item.mask.shape)
        nonzero = int(torch.count_nonzero(item.effective))
        yield {
            "tensor": item.name,
            "shape": "x".join(map(str, shape)),
            "nonzero": nonzero,
            "size": math.prod(shape),
            "sparsity": 1 - nonzero / math.prod(shape),
        }
