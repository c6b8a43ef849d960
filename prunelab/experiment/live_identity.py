"""What names the stages of a user's live objects: the structure and source of a module, the content of a data set."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunelab.config.source import code_digest, source_digest
from prunelab.data.cache import digest
from prunelab.data.dataset import Dataset, Split
from prunelab.errors import ConfigError
from prunelab.pruning.prunable import check_plain
from prunelab.runtime.user_code import explained

NOT_SETTINGS = {*vars(nn.Module()), "training"}
DEPTH = 4  # of objects in objects


def structure(model: nn.Module) -> Any:
    """Return what a module computes, apart from its state dict: the class, source and settings of each part.

    Settings are the attributes of a module that are no parameters, buffers or modules, such as the `p` of Dropout.
    """
    first: dict[int, str] = {}
    shared = {name: first.setdefault(id(p), name) for name, p in model.named_parameters(remove_duplicate=False)}
    stored = model.state_dict().keys()
    buffers = {name: _plain(buffer) for name, buffer in model.named_buffers() if name not in stored}
    kinds = {kind: _plain(kind) for kind in {type(part) for part in model.modules()}}
    parts = {}
    for name, part in model.named_modules(remove_duplicate=False):
        settings = {key: _plain(value) for key, value in vars(part).items() if key not in NOT_SETTINGS}
        parts[name] = [kinds[type(part)], settings]
    return {"parts": parts, "buffers": buffers, "shared": {a: b for a, b in shared.items() if a != b}}


def state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of a model; raise ConfigError if it holds anything but tensors."""
    found: dict[str, Any] = dict(model.state_dict())
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise ConfigError(f"its state dict holds {name}, a {type(value).__name__}; must hold tensors only")
    return found


def content(data: Dataset) -> dict[str, Any]:
    """Return digests of the tensors of each split, and of the source of a split's class, if it is the user's."""

    def tensors(split: Split) -> dict[str, Tensor]:
        norm = {"mean": torch.as_tensor(split.mean), "std": torch.as_tensor(split.std)}
        return {"inputs": split.inputs, "labels": split.labels, **norm}

    found: dict[str, Any] = {key: digest(tensors(split)) for key, split in vars(data).items()}
    sources = {key: source_digest(type(split)) for key, split in vars(data).items()}
    return found | {f"{key} source": source for key, source in sources.items() if source is not None}


def of(model: nn.Module | None, data: Dataset | None) -> tuple[str, dict[str, str]]:
    """Return what identifies the live objects that replace a config's model and data.

    Returns:
        A digest of both, empty if there are none; and the name of each in reports, by `model` and `data`: the model's
        class, or `live data`, with the start of a digest of its own.
    """
    if model is not None:
        check_plain(model)
    with explained(f"model={type(model).__name__}", "cannot be saved", only=ConfigError):
        own = None if model is None else [structure(model), digest(state(model))]
    names, held = dict[str, str](), None if data is None else content(data)
    if model is not None:
        names["model"] = f"{type(model).__name__} {_sha256([own, None])[:8]}"
    if data is not None:
        names["data"] = f"live data {_sha256([None, held])[:8]}"
    return _sha256([own, held]) if names else "", names


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _plain(value: Any, depth: int = DEPTH) -> Any:
    """Return any value as plain data that is the same in every process; of unknown objects their attributes."""
    inner = partial(_plain, depth=depth - 1)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return digest({"": value})
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, Mapping):
        return {str(key): inner(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [inner(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(inner(item)) for item in value)
    if isinstance(value, partial):
        return [inner(value.func), inner(value.args), inner(value.keywords)]
    if isinstance(value, nn.Module):
        return [inner(type(value)), digest(state(value))]
    if callable(value) and hasattr(value, "__qualname__"):
        cells = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
        bound = [*cells, *(getattr(value, "__defaults__", None) or ())]
        return [f"{value.__module__}.{value.__qualname__}", source_digest(value), code_digest(value), inner(bound)]
    if hasattr(value, "__dict__"):
        return [inner(type(value)), {key: inner(item) for key, item in vars(value).items() if key[0] != "_"}]
    return str(value) if type(value).__module__ == "torch" else type(value).__qualname__
