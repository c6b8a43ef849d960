"""A compact network as files: its sizes as JSON, its tensors as safetensors. Nothing is pickled."""

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab.compaction.attention_heads import Heads
from prunelab.compaction.compacted import Compacted
from prunelab.compaction.constant_layer import Constant
from prunelab.costs.stored_tensors import contiguous
from prunelab.errors import ConfigError
from prunelab.exports import fingerprint, finished_run, network_files
from prunelab.pruning.skipping import Absent
from prunelab.runtime.json_data import read_json
from prunelab.runtime.regular_file import regular
from prunelab.stages import files
from prunelab.stages.checkpoint import fitting

Description = dict[str, Any]
FORMAT = 1
WEIGHTS, SHAPES = "compact.safetensors", "compact.json"
SIZES = (
    "in_channels",
    "out_channels",
    "groups",
    "num_channels",
    "num_groups",
    "embedding_dim",
    "input_size",
    "in_features",
    "out_features",
    "num_features",
    "num_parameters",
    "hidden_size",
)
OWN: dict[str, type[nn.Module]] = {"Constant": Constant, "Heads": Heads, "Identity": nn.Identity, "Absent": Absent}


def shapes(model: nn.Module) -> Description:
    """Return the sizes of a compact network's layers: what its class alone does not say; plain data for JSON.

    Returns:
        `format`; `modules`: name → `kind` and `sizes` of a layer, or `settings` of a module that has replaced a layer;
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
    """Turn a dense network into a compact one, in place.

    Args:
        model: of the same class and arguments as the network that was compacted.
        description: from `shapes`.
        state: the compact network's state dict.

    Returns:
        The same model, in eval mode.

    Raises:
        ValueError: if they do not belong together.
    """
    if description.get("format") != FORMAT:
        raise ValueError(f"format={description.get('format')}: must be {FORMAT}")
    with fitting(type(model).__name__, "is not the network that was compacted"):
        for name, said in description["modules"].items():
            _resize(model, name, said)
        made: dict[int, tuple[Tensor, Tensor]] = {}
        for name, shape in description["tensors"].items():
            if list(state[name].shape) != shape:  # no memory is taken for a shape that is only said
                raise ValueError(f"{name} has the shape {list(state[name].shape)}, not {shape}")
            _make_room(model, name, shape, made)
        network_files.put(model, state)
    return model.eval()


def _resize(model: nn.Module, name: str, said: Mapping[str, Any]) -> None:
    if said["kind"] in OWN and "settings" in said:
        kind = OWN[said["kind"]]
        if type(model.get_submodule(name)) is not kind:
            model.set_submodule(name, kind(**said["settings"]))
        return
    module = model.get_submodule(name)
    if type(module).__name__ != said["kind"]:
        raise TypeError(f"{name} is a {type(module).__name__}, not a {said['kind']}")
    for key, value in said["sizes"].items():
        if key not in SIZES:
            raise LookupError(f"{name} has no size {key}")
        setattr(module, key, value)


def _make_room(model: nn.Module, name: str, shape: list[int], made: dict[int, tuple[Tensor, Tensor]]) -> None:
    """Give the model a tensor of that shape, where its own has another shape; shared tensors stay shared."""
    path, _, key = name.rpartition(".")
    module = model.get_submodule(path)
    old = getattr(module, key, None)
    if isinstance(old, Tensor) and list(old.shape) == shape:
        return
    if old is not None and not isinstance(old, Tensor):
        raise TypeError(f"{name} is no tensor")
    like = old if isinstance(old, Tensor) else next((p for p in module.parameters()), torch.empty(0))
    buffer = isinstance(old, Tensor) and not isinstance(old, nn.Parameter)
    new = like.new_zeros(shape) if buffer else nn.Parameter(like.new_zeros(shape))
    if isinstance(old, Tensor):
        _, new = made.setdefault(id(old), (old, new))
    setattr(module, key, new)


def save(folder: str | Path, compacted: Compacted, example: Tensor | None = None) -> None:
    """Write `compact.safetensors` and `compact.json`; `load` reads them.

    Args:
        example: inputs, [n, …], for the network's fingerprint.

    Raises:
        StorageError: if they cannot be written.
    """
    state = contiguous(compacted.model.state_dict())
    small = deepcopy(compacted.model).cpu()
    mark = None if example is None else fingerprint.of(small, example, exact=False)
    said = {**shapes(small), **compacted.as_json(), "fingerprint": mark}
    files.write_file(Path(folder) / WEIGHTS, to_bytes(state))
    files.write_file(Path(folder) / SHAPES, json.dumps(said, indent=1).encode())


def load(model: nn.Module, folder: str | Path) -> nn.Module:
    """Turn a dense network into the compact one that `save` wrote, in place.

    Args:
        model: of the same class and arguments as the network that was compacted.

    Raises:
        ValueError: if the files do not belong to this network.
        OSError: if there are no such files.
    """
    description = read_json(Path(folder) / SHAPES)
    small = rebuild(model, description, load_file(regular(Path(folder) / WEIGHTS)))
    fingerprint.check(small, description.get("fingerprint"), Path(folder) / WEIGHTS)
    return small


def of_run(folder: Path, trusted: Iterable[str] = ()) -> nn.Module:
    """Return the compact network of a run folder, on the CPU, in eval mode; ConfigError if there is none that fits.

    Args:
        trusted: your own packages that the model may be imported from.
    """
    dense = finished_run.read(folder, trusted, stale=True).model
    try:
        with fitting(folder / SHAPES):
            return load(dense, folder)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder}: has no compact network; `prunelab compact` makes one") from error
    except OSError as error:
        raise ConfigError(f"{folder}: its compact network cannot be read: {error.strerror}") from error
