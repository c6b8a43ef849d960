"""Linear layers with 8-bit weights, by torchao: about a quarter of the bytes. Zeros stay zeros."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab.costs.stored_tensors import contiguous, is_quantized, numbers, stored
from prunelab.data.dataset import Split
from prunelab.errors import ConfigError, need
from prunelab.exports import network_files
from prunelab.exports.csr import read_directly
from prunelab.exports.graphs import quiet
from prunelab.exports.network_files import Build, Json, Network

KINDS = {"int8_weight": "Int8WeightOnlyConfig", "int8_dynamic": "Int8DynamicActivationInt8WeightConfig"}
STEPS = 127.5  # torchao's scale is the largest weight of a row ÷ 127.5
BATCH = 1000  # examples at once, for the accuracy


@dataclass(frozen=True)
class Quantized:
    """A network with 8-bit Linear layers.

    Attributes:
        model: on the CPU, in eval mode.
        kind: of `KINDS`.
        layers: names of the quantized layers.
        left_in_float: other layers with weights by name, and why they are not quantized.
        bytes_before, bytes_after: of the network as a safetensors file.
        zeros: weights of the quantized layers that were zero; all of them still are.
        rounded_to_zero: nonzero weights that became zero.
        largest_error: of a weight, in steps of its row's scale; rounding gives at most 0.5.
        accuracy_before, accuracy_after: fractions of the test set; None without one.
    """

    model: nn.Module
    kind: str
    layers: list[str]
    left_in_float: dict[str, str]
    bytes_before: int
    bytes_after: int
    zeros: int
    rounded_to_zero: int
    largest_error: float
    accuracy_before: float | None
    accuracy_after: float | None

    def as_json(self) -> Json:
        """Return everything but the model, as plain data."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "model"}

    def __str__(self) -> str:
        """One line: kind, bytes, accuracy, zeros."""
        before, after = self.accuracy_before, self.accuracy_after
        accuracy = f", test accuracy {before:.2%} → {after:.2%}" if before is not None and after is not None else ""
        share = self.bytes_after / self.bytes_before
        return (
            f"{self.kind}: {self.bytes_before:,} → {self.bytes_after:,} bytes ({share:.1%}){accuracy}; "
            f"{self.zeros:,} zeros stay zeros"
        )


def quantize(model: nn.Module, kind: str, test: Split | None = None) -> Quantized:
    """Return a copy of the model whose Linear layers have int8 weights, symmetric, with one float scale per output.

    `int8_weight` converts the weights to float in every call; `int8_dynamic` also rounds the activations to int8, with
    one scale per example. Convolutions, recurrent layers, attention projections and biases stay in float: torchao has
    int8 kernels for Linear layers only.

    Args:
        model: stays as it is.
        kind: `int8_weight` or `int8_dynamic`.
        test: the accuracy of both networks on it is reported; nothing is chosen by it.

    Raises:
        ConfigError: for another kind, if torchao is missing, if there is no Linear layer, or if a zero is lost.

    Source: symmetric rounding as in Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", arXiv 1712.05877, section 2, per row.
    """
    dense, made = deepcopy(model).cpu().eval(), deepcopy(model).cpu().eval()
    test = test.to(torch.device("cpu")) if test else None
    directly = read_directly(made)
    layers = [name for name, module in made.named_modules() if type(module) is nn.Linear and module not in directly]
    if not layers:
        raise ConfigError(f"quantize={kind}: {type(model).__name__} has no Linear layer; only these are quantized")
    convert(made, kind, layers)
    zeros, rounded, error = _check(dense, made, kind, layers)
    return Quantized(
        model=made,
        kind=kind,
        layers=layers,
        left_in_float=_left(made),
        bytes_before=len(to_bytes(contiguous(dense.state_dict()))),
        bytes_after=len(_file(made)),
        zeros=zeros,
        rounded_to_zero=rounded,
        largest_error=error,
        accuracy_before=_accuracy(dense, test) if test else None,
        accuracy_after=_accuracy(made, test) if test else None,
    )


def convert(model: nn.Module, kind: str, layers: Iterable[str]) -> None:
    """Give Linear layers, by their names, int8 weights in place; ConfigError for another kind, or without torchao."""
    if kind not in KINDS:
        raise ConfigError(f"quantize={kind}: must be null, {' or '.join(KINDS)}")
    need("quantize", "torchao")
    wanted = set(layers)
    with quiet():  # torchao logs while it is imported
        from torchao import quantization

        settings = getattr(quantization, KINDS[kind])()
        quantization.quantize_(model, settings, filter_fn=lambda module, name: name in wanted)


def names(kind: str) -> tuple[str, str]:
    """Return the names of a kind's files: `model.int8_weight.safetensors` and its JSON file."""
    return f"model.{kind}.safetensors", f"model.{kind}.json"


def save(folder: Path, quantized: Quantized, network: Network) -> None:
    """Write both files of `network`, which was quantized; StorageError if they cannot be written."""
    weights, description = names(quantized.kind)
    content = {weights: _file(quantized.model)}
    network_files.save(folder, network, content, description, {"quantize": quantized.as_json()}, quantized.model)


def write(kind: str, folder: Path, network: Network) -> nn.Module:
    """Quantize a network and write it. Return the quantized network: the files must compute what it computes.

    For errors see `quantize` and `save`.
    """
    made = quantize(network.model, kind)
    save(folder, made, network)
    return made.model


def load(kind: str, folder: Path, build: Build) -> nn.Module:
    """Return the network that `save` wrote; see `network_files.load`."""
    return network_files.load(folder, *names(kind), build, partial(_filled, kind))


def _filled(kind: str, model: nn.Module, said: Json, state: dict[str, Tensor]) -> nn.Module:
    convert(model, kind, said["quantize"]["layers"])
    own = dict(stored(model))
    if own.keys() != state.keys():
        raise LookupError(f"other tensors: {', '.join(sorted(own.keys() ^ state.keys())[:3])}")
    for name, value in state.items():
        if own[name].shape != value.shape or own[name].dtype != value.dtype:
            raise TypeError(f"{name} is {value.dtype} {list(value.shape)}")
        own[name].copy_(value)
    return model


def _file(model: nn.Module) -> bytes:
    return to_bytes(contiguous(dict(stored(model))))


@torch.no_grad()
def _accuracy(model: nn.Module, split: Split) -> float:
    correct = 0
    for first in range(0, len(split), BATCH):
        inputs, labels = split.batch(slice(first, first + BATCH))
        correct += int((model(inputs).argmax(1) == labels).sum())
    return correct / len(split)


def _left(model: nn.Module) -> dict[str, str]:
    """Modules with float weights of two or more dimensions, and why they still have them."""
    left = {}
    for name, module in model.named_modules():
        if any(p.dim() > 1 and not is_quantized(p) for p in module.parameters(recurse=False)):
            linear = isinstance(module, nn.Linear)
            why = "another module reads its weight" if linear else "torchao has int8 kernels for Linear layers only"
            left[name] = f"{type(module).__name__}: {why}"
    return left


def _check(dense: nn.Module, made: nn.Module, kind: str, layers: list[str]) -> tuple[int, int, float]:
    """(zeros, weights rounded to zero, largest error in steps). Raises ConfigError if a zero is lost."""
    zeros, rounded, error = 0, 0, 0.0
    for name in layers:
        before, after = (numbers(model.get_parameter(f"{name}.weight")) for model in (dense, made))
        if bool(((before == 0) & (after != 0)).any()):
            raise ConfigError(f"quantize={kind}: pruned weights of {name} are not zero any more; nothing is quantized")
        zeros += int((before == 0).sum())
        rounded += int(((before != 0) & (after == 0)).sum())
        step = (before.abs().amax(1, keepdim=True) / STEPS).clamp_min(torch.finfo(before.dtype).tiny)
        error = max(error, float(((before - after).abs() / step).max()))
    return zeros, rounded, error
