"""The portable checkpoint: safetensors beside a JSON file that says what they are. Nothing is ever unpickled.

model.safetensors + masks.safetensors + model.json are all that `load` needs; in the folder of a run that has not been
exported, summary.json stands in for model.json.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.exports.weights import contiguous
from prunelab.pruning import skipping
from prunelab.runtime.seeding import seeded
from prunelab.stages import files

FORMAT = 1
WEIGHTS, MASKS, DESCRIPTION, SUMMARY = "model.safetensors", "masks.safetensors", "model.json", "summary.json"
Plain = dict[str, Any]


class Network(NamedTuple):
    """What an export starts from.

    Attributes:
        model: with zeros in plain parameters, without masks, on the CPU, in eval mode.
        masks: bool, by the dense model's own names.
        config: the run's.
    """

    model: nn.Module
    masks: dict[str, Tensor]
    config: DictConfig


def load(folder: str | Path, trusted: Iterable[str] = ()) -> nn.Module:
    """The network of a run folder, or of a folder with a portable checkpoint's three files; on the CPU, in eval mode.

    Args:
        trusted: packages of yours that the model may come from. What the files themselves call trusted does not count:
            a checkpoint from elsewhere must not choose what is imported.

    Raises:
        ConfigError: for a folder without a network, or files that are damaged or do not belong together.
    """
    return read(Path(folder), trusted).model


def read(folder: Path, trusted: Iterable[str] = (), stale: bool = False) -> Network:
    """As `load`, with masks and config.

    Args:
        stale: go by summary.json, if it is there: after another run in the same folder model.json is out of date.
    """
    described = (folder / DESCRIPTION).is_file() and not (stale and (folder / SUMMARY).is_file())
    said = read_json(folder / DESCRIPTION) if described else _summary(folder)
    try:
        content = {name: (folder / name).read_bytes() for name in (WEIGHTS, MASKS)}
    except OSError as error:
        raise ConfigError(f"{folder}: {error.filename}: {error.strerror}") from error
    if described:
        verify(folder, content, said)
    model = build(said, trusted)
    weights = tensors(folder / WEIGHTS, content[WEIGHTS])
    fill(model, weights, folder / WEIGHTS)
    kept = tensors(folder / MASKS, content[MASKS])
    skipping.heed(model, kept)
    return Network(model, kept, as_config(said, trusted))


def save(folder: Path, network: Network) -> None:
    """Writes the three files.

    Raises:
        StorageError: if they cannot be written.
    """
    state = contiguous(network.model.state_dict())
    content = {WEIGHTS: to_bytes(state), MASKS: to_bytes(network.masks)}
    said = describe(network, content)
    said["tensors"] = {name: {"shape": list(value.shape), "dtype": str(value.dtype)} for name, value in state.items()}
    said["masks"] = {
        name: {"shape": list(mask.shape), "kept": int(mask.sum()), "of": mask.numel()}
        for name, mask in network.masks.items()
    }
    write_all(folder, {**content, DESCRIPTION: json.dumps(said, indent=1).encode()})


def describe(network: Network, content: dict[str, bytes]) -> Plain:
    """What any JSON file says that stands beside tensors: `format`, `config`, `versions`, and the files' `sha256`.

    Also `skipped`: the layers that a strategy removed, whose tensors are there, all zeros, but which are not run.
    """
    from prunelab import __version__

    return {
        "format": FORMAT,
        "config": OmegaConf.to_container(network.config, resolve=True),
        "versions": {"prunelab": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
        "skipped": skipping.skipped(network.model),
    }


def verify(folder: Path, content: dict[str, bytes], said: Plain) -> None:
    """Raises ConfigError for a file that is not the one that the JSON file describes."""
    for name, data in content.items():
        if hashlib.sha256(data).hexdigest() != said["sha256"].get(name):
            raise ConfigError(f"{folder / name}: is damaged, or was written after its JSON file; export it again")


def build(said: Plain, trusted: Iterable[str] = ()) -> nn.Module:
    """The network that a config describes, with no weights of its own; torch's generators go on as if untouched.

    Raises:
        ConfigError: if it cannot be built, or comes from a package that is not `trusted`.
    """
    config = as_config(said, trusted)
    try:
        with seeded("export"):
            model = building.network(config).eval()
        for name in said.get("skipped", []):
            skipping.set_skipped(model.get_submodule(name), True)
        return model
    except ConfigError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"the config builds no network: {' '.join(str(error).split())}") from error


def as_config(said: Plain, trusted: Iterable[str]) -> DictConfig:
    """The config in a JSON file, but for what it calls trusted."""
    return OmegaConf.create({**said["config"], "trusted": list(trusted)})


def fill(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Loads a state dict; raises ConfigError that names `path` if it does not fit."""
    try:
        model.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        raise ConfigError(f"{path}: does not fit its config's model: {' '.join(str(error).split())}") from error


def tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ConfigError: if it is none.
    """
    try:
        return from_bytes(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: is no safetensors file: {error}") from error


def read_json(path: Path) -> Plain:
    """A JSON file that `describe` had a part in.

    Raises:
        ConfigError: if it is none.
    """
    try:
        said: Plain = json.loads(path.read_bytes())
        if said["format"] != FORMAT:
            raise ValueError(f"format={said['format']}: must be {FORMAT}")
        if not isinstance(said["config"], dict) or not isinstance(said["sha256"], dict):
            raise TypeError("config and sha256 must be objects")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path}: is damaged: {error}") from error
    return said


def _summary(folder: Path) -> Plain:
    try:
        said = json.loads((folder / SUMMARY).read_bytes())
        status, config = said["status"], said["config"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{folder}: must be the folder of a finished run, with its {SUMMARY}") from error
    if status != "completed" or not isinstance(config, dict):
        raise ConfigError(f"{folder}: its run is {status}; must be completed")
    return {"config": config}


def write_all(folder: Path, content: dict[str, bytes]) -> None:
    """Writes files into a folder, leaving alone those that have that content already."""
    for name, data in content.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            files.write_file(path, data)
