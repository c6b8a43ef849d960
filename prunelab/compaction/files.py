"""A compact network as files without code: its shapes as JSON, its tensors as safetensors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab.compaction.attention import Heads
from prunelab.compaction.constant import Constant
from prunelab.compaction.shrink import Compacted, put
from prunelab.config.schema import ConfigError
from prunelab.exports import checkpoint as portable
from prunelab.exports.weights import contiguous
from prunelab.pruning.skipping import Absent
from prunelab.stages import files

Description = dict[str, Any]
FORMAT = 1
WEIGHTS, SHAPES = "compact.safetensors", "compact.json"
SIZES = (
    "in_channels",
    "out_channels",
    "groups",
    "in_features",
    "out_features",
    "num_features",
    "num_parameters",
    "hidden_size",
)
OWN: dict[str, type[nn.Module]] = {"Constant": Constant, "Heads": Heads, "Identity": nn.Identity, "Absent": Absent}


def shapes(model: nn.Module) -> Description:
    """What sets a compact network apart from the class it comes from; plain data, for JSON.

    Returns:
        `format`; `modules`: name → `kind` and `sizes` (of a layer), or `settings` (of what has taken a layer's place);
        `tensors`: name → shape.
    """
    modules: dict[str, Any] = {}
    for name, module in model.named_modules():
        kind = type(module).__name__
        if OWN.get(kind) is type(module):
            settings = module.settings() if isinstance(module, (Constant, Heads)) else {}
            modules[name] = {"kind": kind, "settings": settings}
            continue
        sizes = {key: value for key in SIZES if isinstance(value := getattr(module, key, None), int)}
        if sizes:
            modules[name] = {"kind": kind, "sizes": sizes}
    tensors = {name: list(value.shape) for name, value in model.state_dict().items()}
    return {"format": FORMAT, "modules": modules, "tensors": tensors}


def rebuild(model: nn.Module, description: Description, state: Mapping[str, Tensor]) -> nn.Module:
    """Turns a new dense network into a compact one, in place.

    Args:
        model: of the class and with the arguments that the compact network comes from, without masks.
        description: from `shapes`.
        state: of the compact network, by name.

    Returns:
        The same model, in eval mode.

    Raises:
        ValueError: if they do not belong together.
    """
    if description.get("format") != FORMAT:
        raise ValueError(f"format={description.get('format')}: must be {FORMAT}")
    try:
        for name, said in description["modules"].items():
            _resize(model, name, said)
        for name, shape in description["tensors"].items():
            _make_room(model, name, shape)
        model.load_state_dict(dict(state))
    except (AttributeError, LookupError, TypeError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{type(model).__name__}: is not what the compact network was made from: {why}") from error
    return model.eval()


def _resize(model: nn.Module, name: str, said: Mapping[str, Any]) -> None:
    if said["kind"] in OWN and "settings" in said:
        kind = OWN[said["kind"]]
        if type(model.get_submodule(name)) is not kind:
            put(model, name, kind(**said["settings"]))
        return
    module = model.get_submodule(name)
    if type(module).__name__ != said["kind"]:
        raise TypeError(f"{name} is a {type(module).__name__}, not a {said['kind']}")
    for key, value in said["sizes"].items():
        if key not in SIZES:
            raise LookupError(f"{name} has no size {key}")
        setattr(module, key, value)


def _make_room(model: nn.Module, name: str, shape: list[int]) -> None:
    """A tensor of another shape, where the model has none of this one."""
    path, _, key = name.rpartition(".")
    module = model.get_submodule(path)
    old = getattr(module, key, None)
    if isinstance(old, Tensor) and list(old.shape) == shape:
        return
    like = old if isinstance(old, Tensor) else next((p for p in module.parameters()), torch.empty(0))
    room = like.new_zeros(shape)
    if key in module._buffers:
        module._buffers[key] = room
    else:
        setattr(module, key, nn.Parameter(room))


def save(folder: str | Path, compacted: Compacted) -> None:
    """Writes `compact.safetensors` and `compact.json`; see `load`.

    Raises:
        StorageError: if they cannot be written.
    """
    model, *said = compacted
    state = contiguous(model.state_dict())
    facts = dict(zip(Compacted._fields[1:], said, strict=True))
    text = json.dumps({**shapes(model), **facts}, indent=1)
    files.write_file(Path(folder) / WEIGHTS, to_bytes(state))
    files.write_file(Path(folder) / SHAPES, text.encode())


def load(model: nn.Module, folder: str | Path) -> nn.Module:
    """Rebuilds what `save` wrote, out of a new dense network, in place. Nothing is unpickled.

    Raises:
        ValueError: if the files do not belong to this network.
        OSError: if there are none.
    """
    description = json.loads((Path(folder) / SHAPES).read_text())
    return rebuild(model, description, load_file(Path(folder) / WEIGHTS))


def of_run(folder: Path, trusted: Iterable[str] = ()) -> nn.Module:
    """The compact network of a run folder; on the CPU, in eval mode. Nothing is unpickled.

    Args:
        trusted: packages of yours that the model may come from.

    Raises:
        ConfigError: if the folder has none, or its files do not belong together.
    """
    dense = portable.read(folder, trusted, stale=True).model
    try:
        return load(dense, folder)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder}: has no compact network; python -m prunelab.compact makes one") from error
    except (ValueError, LookupError, SafetensorError) as error:
        raise ConfigError(f"{folder}: its compact network cannot be read: {' '.join(str(error).split())}") from error
