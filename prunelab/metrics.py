"""What a network costs, counted, not estimated: parameters, nonzeros, multiply-adds, and where they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from prunelab import masks

Row = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A Conv or Linear layer as it runs: `positions` is how often each of its weights is used for one example."""

    name: str
    module: nn.Module
    positions: int

    @property
    def weight(self) -> Tensor:
        """The layer's weight, as the network computes with it."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight


def layers(model: nn.Module, example: Tensor) -> list[Layer]:
    """The Conv and Linear layers in the order in which they run.

    Args:
        example: one input with its batch dimension, [1, …].
    """
    found: list[Layer] = []
    names = {module: name for name, module in model.named_modules()}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)  # there, each input position is used once
        positions = inputs[0] if transposed else output
        channels = positions.shape[1] if isinstance(module, nn.modules.conv._ConvNd) else positions.shape[-1]
        found.append(Layer(names[module], module, positions.numel() // channels))

    hooks = [m.register_forward_hook(record) for m in names if isinstance(m, masks.PRUNABLE_TYPES)]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def cost(model: nn.Module, running: list[Layer]) -> Row:
    """The size columns of a round.

    Args:
        running: from `layers`.

    Returns:
        `sparsity`: zeros ÷ all over the prunable tensors. `sparsity_total`: the same over the whole model. `nonzero`,
        `parameters`: over the whole model. `compression_ratio`: parameters ÷ nonzero. `macs`: multiply-adds of Conv and
        Linear layers for one example, biases not counted; `macs_nonzero`: those on nonzero weights.
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
        weight = effective.get((layer.module, "weight"), layer.weight)
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
            "size": prod(shape),
            "sparsity": 1 - nonzero / prod(shape),
        }
