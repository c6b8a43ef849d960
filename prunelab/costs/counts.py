"""Exact counts of a network: parameters, nonzero parameters, multiply-adds, and the layers that do them."""

import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from prunelab.costs.stored_tensors import numbers
from prunelab.pruning import skipping
from prunelab.pruning.masks import MaskedTensor
from prunelab.records import LayerRecord
from prunelab.runtime.eval_mode import in_eval_mode

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SHIFTED = "ShiftedWindowAttention"  # torchvision's class, by name: importing torchvision takes seconds
SHIFTED_LAYERS = ("qkv", "proj")  # it reads their weights and never calls these layers


class NonzeroWeights(nn.Module):
    """Base class of linear layers that store only their nonzero `values`, [nonzero], and multiply only with these."""

    values: nn.Parameter


@dataclass(frozen=True)
class Layer:
    """A weight that the forward pass uses.

    Attributes:
        name: of the module in the model, such as `blocks.0.conv1`.
        positions: how often each element of the weight is used for one example.
        parameter: the weight's name in the module.
        rows: the rows of the weight that are used so often: the joint weight of an attention layer has queries, keys
            and values below each other, and keys may come from a longer sequence than queries.
    """

    name: str
    module: nn.Module
    positions: int
    parameter: str = "weight"
    rows: slice = field(default_factory=lambda: slice(None))

    @property
    def weight(self) -> Tensor:
        """The numbers of the rows."""
        return numbers(getattr(self.module, self.parameter))[self.rows]


@dataclass(frozen=True)
class Counts:
    """The size of a network; a shared parameter counts once. The columns of a `RoundRecord` say what each field is.

    Attributes:
        macs: multiply-adds of one example on the weights of Conv, Linear, recurrent and attention layers. Biases and
            products of activations (attention scores) are not counted.

    Source: Blalock et al. 2020, "What is the state of neural network pruning?", arXiv 2003.03033.
    """

    sparsity: float
    sparsity_total: float
    nonzero: int
    parameters: int
    compression_ratio: float
    macs: int
    macs_nonzero: int
    theoretical_speedup: float


def layers(model: nn.Module, example: Tensor, removed: bool = True) -> list[Layer]:
    """Return the weights of Conv, Linear, recurrent and attention layers that run, in the order in which they run.

    Args:
        example: one input with its batch dimension, [1, …].
        removed: whether layers that are left out of the forward pass (`prunelab.pruning.skipping`) are returned too, as
            the dense network runs them.
    """
    found: list[Layer] = []
    names = {module: name for name, module in model.named_modules()}

    def record(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        if isinstance(module, nn.MultiheadAttention):
            used = _attention(module, inputs, keywords)
        else:
            used = _used(module, inputs[0] if inputs else keywords["input"], output)
        found.extend(replace(layer, name=f"{names[module]}.{layer.name}".strip(".")) for layer in used)

    counted = (*CONVS, *TRANSPOSED, nn.Linear, nn.RNNBase, nn.MultiheadAttention, NonzeroWeights)
    hooks = [
        module.register_forward_hook(record, with_kwargs=True)
        for module in names
        if isinstance(module, counted) or type(module).__name__.startswith(SHIFTED)
    ]
    try:
        with torch.no_grad(), in_eval_mode(model), skipping.all_run(model) if removed else nullcontext():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _used(module: nn.Module, given: Any, output: Any) -> Iterator[Layer]:
    """The weights that one call of a module uses. Names are relative to the module."""
    if isinstance(module, (*CONVS, *TRANSPOSED)):
        positions = given if isinstance(module, TRANSPOSED) else output  # [n, channels, …] or [channels, …]
        yield Layer("", module, positions.numel() // positions.shape[-1 - len(module.kernel_size)])
    elif isinstance(module, nn.Linear):
        yield Layer("", module, _tokens(output))
    elif isinstance(module, NonzeroWeights):
        yield Layer("", module, _tokens(output), "values")
    elif isinstance(module, nn.RNNBase):
        steps = _tokens(given.data if isinstance(given, PackedSequence) else given)
        for key, _ in module.named_parameters(recurse=False):
            if key.startswith("weight_"):
                yield Layer("", module, steps, key)
    else:  # ShiftedWindowAttention: [n, height, width, channels], padded to whole windows
        count, *size = given.shape[:3]
        windows: Any = module.window_size
        padded = (math.ceil(n / window) * window for n, window in zip(size, windows, strict=True))
        positions = count * math.prod(padded)
        for name in SHIFTED_LAYERS:
            yield Layer(name, module.get_submodule(name), positions)


def _attention(module: nn.MultiheadAttention, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Iterator[Layer]:
    """Queries, keys, values and the output are each projected once per token; `out_proj` itself is never called."""
    given = dict(zip(("query", "key", "value"), inputs, strict=False)) | keywords
    queries, keys, values = (_tokens(given[name]) for name in ("query", "key", "value"))
    if module.in_proj_weight is None:
        for letter, positions in zip("qkv", (queries, keys, values), strict=True):
            yield Layer("", module, positions, f"{letter}_proj_weight")
    elif queries == keys:
        yield Layer("", module, queries, "in_proj_weight")
    else:
        yield Layer("", module, queries, "in_proj_weight", slice(module.embed_dim))
        yield Layer("", module, keys, "in_proj_weight", slice(module.embed_dim, None))
    yield Layer("out_proj", module.out_proj, queries)


def _tokens(x: Tensor) -> int:
    """How many vectors there are in [..., width]."""
    return x.numel() // x.shape[-1]


def nonzeros(tensors: Iterable[Tensor]) -> tuple[int, int]:
    """Return the number of nonzero elements and of all elements."""
    found = [(int(torch.count_nonzero(values)), values.numel()) for values in map(numbers, tensors)]
    return sum(nonzero for nonzero, _ in found), sum(size for _, size in found)


def macs(running: Iterable[Layer]) -> tuple[int, int]:
    """Return the multiply-adds of one example on the layers' weights, and those on nonzero weights."""
    found = [(*nonzeros([layer.weight]), layer.positions) for layer in running]
    return sum(size * n for _, size, n in found), sum(nonzero * n for nonzero, _, n in found)


def count(model: nn.Module, running: Iterable[Layer], masks: Iterable[MaskedTensor] = ()) -> Counts:
    """Count parameters and multiply-adds of the `running` layers; `sparsity` is that of the masked tensors."""
    kept, prunable = nonzeros(item.parameter for item in masks)
    nonzero, parameters = nonzeros(model.parameters())
    done, done_nonzero = macs(running)
    return Counts(
        sparsity=(prunable - kept) / prunable if prunable else 0.0,
        sparsity_total=1 - nonzero / parameters if parameters else 0.0,
        nonzero=nonzero,
        parameters=parameters,
        compression_ratio=parameters / nonzero if nonzero else math.inf,
        macs=done,
        macs_nonzero=done_nonzero,
        theoretical_speedup=done / done_nonzero if done_nonzero else math.inf,
    )


def per_tensor(masks: Iterable[MaskedTensor], round: int = 0) -> Iterator[LayerRecord]:
    """Count each masked tensor at the end of a round."""
    for item in masks:
        nonzero, size = nonzeros([item.parameter])
        yield LayerRecord(round, item.name, "x".join(map(str, item.mask.shape)), nonzero, size, 1 - nonzero / size)
