"""The file of `model.checkpoint`: finding tensors in files and folders of many tools, and matching of their names."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from prunelab.errors import ConfigError, one_line
from prunelab.exports.network_files import put
from prunelab.runtime.regular_file import regular
from prunelab.stages.checkpoint import UNREADABLE

Tensors = dict[str, Tensor]
FILES = ("model.safetensors", "weights.safetensors", "pytorch_model.bin")  # of a run or an export; of a stage
MASKS = "masks.safetensors"  # beside them
FIRST = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
WRAPPERS = ("module", "_orig_mod")  # of DistributedDataParallel and of torch.compile
SHOWN, LONGEST = 3, 160  # names and characters in a message


@dataclass(frozen=True)
class Stored:
    """What a file of weights says beside the weights.

    Attributes:
        masks: bool, by the model's names of parameters.
        layers_removed: whether prunelab has removed whole layers from the network.
        places: where weights that fit were found, such as `state_dict model.*`; the first were taken.
    """

    masks: Tensors = field(default_factory=dict)
    layers_removed: bool = False
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    """A state dict in a file, with the masks that were applied to it.

    Attributes:
        place: names of the containers that it lies in, and the prefix of its names.
    """

    place: str
    state: Tensors
    masks: Tensors


def load_weights(model: nn.Module, file: str) -> Stored:
    """Load trained weights into a model; only tensors are unpickled.

    Args:
        file: a .safetensors file or one of `torch.save`, or the folder of a run, a stage or an export. A state dict may
            be nested (`{"state_dict": …}`), its names may have prefixes (`module.`, `_orig_mod.`, `model.`), and its
            weights the form of torch.nn.utils.prune (`weight_orig`, `weight_mask`).

    Raises:
        ConfigError: if the file cannot be read or does not fit the model.
    """
    wanted = model.state_dict()
    try:
        path = _in_folder(Path(file))
        found = [_multiplied(*pair) for pair in _state_dicts(_read(path))]
        if not found:
            raise ValueError("it holds no tensors by name")
        named = [same for one in found for same in _renamed(one, list(wanted))]
        fitting = [one for one in named if not _differences(wanted, one.state)]
        best = (fitting or named or [max(found, key=lambda one: len(one.state.keys() & wanted.keys()))])[0]
        if not fitting:
            raise ValueError(_differences(wanted, best.state))
        put(model, best.state)
        masks = load_file(path.parent / MASKS) if path.name in FILES and (path.parent / MASKS).is_file() else {}
    except (*UNREADABLE, OSError, AttributeError) as error:
        if isinstance(error, FileNotFoundError) and not Path(file).exists():
            raise ConfigError(f"model.checkpoint={file}: no such file") from error
        said = getattr(error, "strerror", None) or one_line(error)
        said = said if len(said) <= LONGEST else f"{said[:LONGEST]} …"
        raise ConfigError(f"model.checkpoint={file}: cannot be loaded into this model: {said}") from error
    removed = any(mask.dim() > 1 and not bool(mask.any()) for mask in masks.values())
    masks = {name: mask for name, mask in masks.items() if name in wanted and mask.shape == wanted[name].shape}
    return Stored({**best.masks, **masks}, removed, tuple(one.place for one in fitting))


def _in_folder(path: Path) -> Path:
    """Return the file of weights in a folder; the path itself if it is no folder."""
    there = next((path / name for name in FILES if (path / name).is_file()), None)
    if path.is_dir() and there is None:
        raise ValueError(f"a folder must have one of {', '.join(FILES)}")
    return there or path


def _read(path: Path) -> Any:
    """Return the content of a file: tensors by name, perhaps nested in other things."""
    with regular(path).open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # after the length of the header, by the published format of safetensors
        return load_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of files that are no state dicts; they are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        kind = re.search(r"GLOBAL ([\w.]+)", str(error))
        if kind is not None:
            held = f"it holds a pickled {kind[1]}, and only tensors are unpickled (weights_only)"
            raise ValueError(f"{held}; store model.state_dict() instead") from error
        raise ValueError(f"it is no .safetensors file and no state dict by torch.save: {one_line(error)}") from error


def _state_dicts(content: Any, place: str = "", depth: int = 3) -> Iterator[tuple[str, Tensors]]:
    """Yield the state dicts in a file, each with its place; those in the usual places first."""
    if not isinstance(content, Mapping):
        return
    entries = {key: value for key, value in content.items() if isinstance(key, str)}
    here = {key: x for key, x in entries.items() if isinstance(x, Tensor) or key.endswith("_extra_state")}
    if here:
        yield place, here
    for key in sorted(entries, key=_usual) if depth else ():
        yield from _state_dicts(entries[key], f"{place} {key}".strip(), depth - 1)


def _usual(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def _multiplied(place: str, state: Tensors) -> _Found:
    """Turn pairs of `weight_orig` and `weight_mask` into weights and their masks."""
    names = [name.removesuffix("_mask") for name in state if name.endswith("_mask")]
    masks = {name: state[f"{name}_mask"] for name in names if f"{name}_orig" in state}
    made = {name: state[f"{name}_orig"] * mask.to(state[f"{name}_orig"].dtype) for name, mask in masks.items()}
    gone = {f"{name}{end}" for name in masks for end in ("_orig", "_mask")}
    return _Found(place, {name: x for name, x in state.items() if name not in gone} | made, masks)


def _renamed(found: _Found, names: Sequence[str]) -> list[_Found]:
    """Return the state dict under the model's names, once for each prefix that gives exactly these names."""
    for simple in (str, _unwrapped):
        there, wanted = {simple(name): name for name in found.state}, {simple(name): name for name in names}
        if len(there) < len(found.state) or len(wanted) < len(names):
            continue  # two names have become one
        made = []
        for prefix in _prefixes(list(there), list(wanted)):
            own = {there[prefix + name]: full for name, full in wanted.items() if prefix + name in there}
            if len(own) == len(wanted) == sum(name.startswith(prefix) for name in there):
                state, masks = ({own[n]: x for n, x in of.items() if n in own} for of in (found.state, found.masks))
                made.append(_Found(f"{found.place} {prefix}*".strip(), state, masks))
        if made:
            return made
    return []


def _prefixes(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the prefixes that may stand before the model's names in a file: none, then the usual ones."""
    last = wanted[0] if wanted else ""
    found = {name.removesuffix(last) for name in there if name == last or name.endswith(f".{last}")}
    return sorted(found, key=lambda prefix: (prefix != "", _usual(prefix.rstrip(".")), prefix))


def _unwrapped(name: str) -> str:
    """Return a name without the parts that wrappers add: `module._orig_mod.conv1.weight` → `conv1.weight`."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _differences(wanted: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Return in words what is wrong with a state dict; empty if it fits."""
    lacks, more = [n for n in wanted if n not in state], [n for n in state if n not in wanted]
    shapes = [
        (n, list(x.shape), list(wanted[n].shape)) for n, x in state.items() if n in wanted and hasattr(x, "shape")
    ]
    other = [f"{name} {has}, which must be {must}" for name, has, must in shapes if has != must]
    said = {"it lacks": lacks, "it has": other, "the model has no": more}
    return "; ".join(f"{what} {_few(names)}" for what, names in said.items() if names)


def _few(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
