"""Weights of Linear layers in 8 bits, by torchao: a quarter of the bytes, hardly another answer, zeros stay zeros."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab.config.schema import ConfigError
from prunelab.data.dataset import Split
from prunelab.exports import checkpoint as portable
from prunelab.exports.checkpoint import Network
from prunelab.exports.csr import read_directly
from prunelab.exports.graphs import need, quiet
from prunelab.exports.weights import contiguous
from prunelab.pruning import masks
from prunelab.training import loop as training

KINDS = {"int8_weight": "Int8WeightOnlyConfig", "int8_dynamic": "Int8DynamicActivationInt8WeightConfig"}
WEIGHTS, DESCRIPTION = "model.{kind}.safetensors", "model.{kind}.json"
STEPS = 127.5  # torchao's scale is a row's largest weight ÷ 127.5


class Quantized(NamedTuple):
    """A network with 8-bit Linear layers; all but `model` is plain data, for the summary.

    Attributes:
        model: on the CPU, in eval mode.
        kind: of `KINDS`.
        layers: names of the quantised ones.
        left_in_float: of other layers with weights, name → why.
        bytes_before, bytes_after: of the network as a safetensors file.
        zeros: weights of the quantised layers that were zero; all of them are still.
        rounded_to_zero: weights that were not.
        largest_error: of a weight, in steps of its row's scale; rounding is at most 0.5.
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

    @property
    def facts(self) -> dict[str, Any]:
        """All but the model."""
        return {key: value for key, value in self._asdict().items() if key != "model"}


def quantize(model: nn.Module, kind: str, test: Split | None = None) -> Quantized:
    """A copy whose Linear layers have int8 weights, symmetric, with one float scale for each output.

    `int8_weight` makes floats of them as it multiplies; `int8_dynamic` rounds the activations to int8 too, with a scale
    for each example. Convolutions, recurrent and attention layers and biases stay in float: torchao's kernels multiply
    in Linear layers only.

    Args:
        model: with masks or with their zeros; stays as it is.
        kind: `int8_weight` or `int8_dynamic`.
        test: nothing is chosen by it; both networks' accuracy on it is told.

    Raises:
        ConfigError: for another kind, if torchao is missing, if there is no Linear layer, or if a zero came back.

    Source: symmetric rounding as in Jacob et al. 2018, "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", arXiv 1712.05877, section 2, per row.
    """
    dense = masks.plain_copy(model).cpu().eval()
    test = test.to(torch.device("cpu")) if test else None
    made = masks.plain_copy(dense).eval()
    layers = [name for name, module in made.named_modules() if _fits(made, module)]
    if not layers:
        raise ConfigError(f"quantize={kind}: {type(model).__name__} has no Linear layer, and only these are quantised")
    convert(made, kind, layers)
    zeros, rounded, error = _check(dense, made, kind, layers)
    return Quantized(
        made,
        kind,
        layers,
        _left(made),
        len(to_bytes(contiguous(dense.state_dict()))),
        len(to_bytes(flat(made))),
        zeros,
        rounded,
        error,
        training.evaluate(dense, test)[0] if test else None,
        training.evaluate(made, test)[0] if test else None,
    )


def text(quantized: Quantized) -> str:
    """One line for the eye."""
    before, after = quantized.accuracy_before, quantized.accuracy_after
    accuracy = f", test accuracy {before:.2%} → {after:.2%}" if before is not None and after is not None else ""
    share = quantized.bytes_after / quantized.bytes_before
    return (
        f"{quantized.kind}: {quantized.bytes_before:,} → {quantized.bytes_after:,} bytes ({share:.1%}){accuracy}; "
        f"{quantized.zeros:,} zeros stay zeros"
    )


def convert(model: nn.Module, kind: str, layers: Iterable[str]) -> None:
    """Gives those Linear layers int8 weights, in place.

    Raises:
        ConfigError: for another kind, or if torchao is missing.
    """
    if kind not in KINDS:
        raise ConfigError(f"quantize={kind}: must be null, {' or '.join(KINDS)}")
    need("quantize", "torchao")
    wanted = set(layers)
    with quiet():  # torchao talks while it is imported
        from torchao import quantization

        settings = getattr(quantization, KINDS[kind])()
        quantization.quantize_(model, settings, filter_fn=lambda module, name: name in wanted)


def plain(tensor: Tensor) -> Tensor:
    """A tensor's numbers, also of a quantised one."""
    numbers: Tensor = tensor.detach().dequantize() if _inner(tensor) else tensor.detach()
    return numbers


def is_quantized(tensor: Tensor) -> bool:
    """Whether it is made of smaller numbers and their scales."""
    return bool(_inner(tensor))


def flat(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with `fc1.weight.qdata`, `.scale` and so on for a quantised `fc1.weight`."""
    return contiguous(dict(pieces(model)))


def names(kind: str) -> tuple[str, str]:
    """The files of a kind: `model.int8_weight.safetensors` and its JSON."""
    return WEIGHTS.format(kind=kind), DESCRIPTION.format(kind=kind)


def save(folder: Path, quantized: Quantized, config: DictConfig) -> tuple[str, str]:
    """Writes both files; returns their names.

    Raises:
        StorageError: if they cannot be written.
    """
    weights, description = names(quantized.kind)
    content = {weights: to_bytes(flat(quantized.model))}
    said = portable.describe(Network(quantized.model, {}, config), content) | {"quantize": quantized.facts}
    portable.write_all(folder, {**content, description: json.dumps(said, indent=1).encode()})
    return weights, description


def write(kind: str, folder: Path, network: Network) -> nn.Module:
    """Quantises a network and writes it; returns the quantised one, which is what its files must compute.

    Raises:
        ConfigError, StorageError: as `quantize` and `save` do.
    """
    made = quantize(network.model, kind)
    save(folder, made, network.config)
    return made.model


def load(folder: Path, kind: str, trusted: Iterable[str] = ()) -> nn.Module:
    """The network that `save` wrote; on the CPU, in eval mode.

    Raises:
        ConfigError: if the files are missing, damaged, or do not belong together.
    """
    weights, description = (folder / name for name in names(kind))
    said = portable.read_json(description)
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise ConfigError(f"{weights}: {error.strerror}") from error
    portable.verify(folder, {weights.name: data}, said)
    model = portable.build(said, trusted)
    stored = portable.tensors(weights, data)
    try:
        convert(model, kind, said["quantize"]["layers"])
        room = dict(pieces(model))
        if room.keys() != stored.keys():
            raise LookupError(f"other tensors: {', '.join(sorted(room.keys() ^ stored.keys())[:3])}")
        for name, value in stored.items():
            if room[name].shape != value.shape or room[name].dtype != value.dtype:
                raise TypeError(f"{name} is {value.dtype} {list(value.shape)}")
            room[name].copy_(value)
    except (LookupError, TypeError) as error:
        raise ConfigError(f"{weights}: does not fit its config's model: {error}") from error
    return model.eval()


def pieces(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the state, by name, in its own memory."""
    for name, value in model.state_dict().items():
        inner = _inner(value)
        if not inner:
            yield name, value.detach()
        for key in inner:
            yield f"{name}.{key}", getattr(value, key)


def _inner(tensor: Tensor) -> list[str]:
    flatten: Callable[[], tuple[list[str], object]] | None = getattr(tensor, "__tensor_flatten__", None)
    return flatten()[0] if flatten else []


def _fits(model: nn.Module, module: nn.Module) -> bool:
    return type(module) is nn.Linear and module not in read_directly(model)


def _left(model: nn.Module) -> dict[str, str]:
    """Modules with floating-point weights of two or more dimensions, and why they still have them."""
    left = {}
    for name, module in model.named_modules():
        if any(p.dim() > 1 and not _inner(p) for p in module.parameters(recurse=False)):
            linear = isinstance(module, nn.Linear)
            why = "another module reads its weight" if linear else "torchao multiplies in int8 in Linear layers only"
            left[name] = f"{type(module).__name__}: {why}"
    return left


def _check(dense: nn.Module, made: nn.Module, kind: str, layers: list[str]) -> tuple[int, int, float]:
    """(zeros, weights rounded to zero, largest error in steps); raises ConfigError if a zero is none any more."""
    zeros, rounded, error = 0, 0, 0.0
    for name in layers:
        before, after = (plain(model.get_parameter(f"{name}.weight")) for model in (dense, made))
        if bool(((before == 0) & (after != 0)).any()):
            raise ConfigError(f"quantize={kind}: pruned weights of {name} came back; the network is not quantised")
        zeros += int((before == 0).sum())
        rounded += int(((before != 0) & (after == 0)).sum())
        step = (before.abs().amax(1, keepdim=True) / STEPS).clamp_min(torch.finfo(before.dtype).tiny)
        error = max(error, float(((before - after).abs() / step).max()))
    return zeros, rounded, error
