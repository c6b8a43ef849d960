"""Reading and writing the pairs of files that hold a network: tensors (safetensors) and a JSON file beside them."""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as from_bytes
from torch import Tensor, nn

from prunelab.errors import ConfigError
from prunelab.exports import fingerprint
from prunelab.pruning import skipping
from prunelab.runtime.json_data import read_json
from prunelab.runtime.regular_file import regular
from prunelab.stages import files
from prunelab.stages.checkpoint import fitting

FORMAT = 1
Json = dict[str, Any]
Build = Callable[[Json], nn.Module]  # from the content of the JSON file to a network whose weights do not matter


@dataclass(frozen=True)
class Network:
    """A network to be exported.

    Attributes:
        model: plain parameters with zeros, on the CPU, in eval mode.
        example: inputs, [n, …]; graphs are traced with them.
        masks: bool, by the names of the parameters; empty for a live module.
        config: of the run, as plain data; None for a live module, whose files can only be loaded into a copy of it.
    """

    model: nn.Module
    example: Tensor | None = None
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    config: Json | None = None


def save(
    folder: Path, network: Network, content: Mapping[str, bytes], name: str, more: Json, held: nn.Module | None = None
) -> None:
    """Write files of a network, and `name`, a JSON file beside them; for errors see `write_all`.

    It says `format`, `config`, `versions`, `sha256` of the files, `skipped`, `fingerprint` and `more`. `skipped` names
    the layers that a strategy removed: their tensors are in the file, all zero, but they are not run.

    Args:
        content: the files by name.
        held: the network that the files hold, if it has other layers.
    """
    from prunelab import __version__

    said = {
        "format": FORMAT,
        "config": network.config,
        "versions": {"prunelab": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
        "skipped": skipping.skipped(network.model),
        "fingerprint": None
        if network.example is None
        else fingerprint.of(held or network.model, network.example, exact=held is None),
        **more,
    }
    write_all(folder, {**content, name: json.dumps(said, indent=1).encode()})


def write_all(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write files into a folder, but for those that have the same content already; StorageError if that fails."""
    for name, data in content.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            files.write_file(path, data)


def load(
    folder: Path,
    weights: str,
    description: str,
    build: Build,
    fit: Callable[[nn.Module, Json, dict[str, Tensor]], nn.Module],
) -> nn.Module:
    """Return the network of a safetensors file and the JSON file that describes it; on the CPU, in eval mode.

    Args:
        weights, description: the names of the files.
        fit: gives a network from `build` the layers that the JSON file names and the tensors; returns it.

    Raises:
        ConfigError: if they are missing, damaged, or do not belong together.
    """
    said, data = read_description(folder / description), read_bytes(folder / weights)
    verify(folder, {weights: data}, said)
    state, model = tensors(folder / weights, data), build(said).cpu()
    with fitting(folder / weights, "does not fit the model"):
        model = fit(model, said, state)
    fingerprint.check(model, said.get("fingerprint"), folder / weights)
    return model.eval()


def read_description(path: Path) -> Json:
    """Return the content of a JSON file from `save`; ConfigError if it is missing, damaged or of another format."""
    try:
        with fitting(path, "is damaged"):
            said: Json = read_json(path)
            if said["format"] != FORMAT:
                raise ValueError(f"format={said['format']}: must be {FORMAT}")
            if not isinstance(said["config"], dict | None) or not isinstance(said["sha256"], dict):
                raise TypeError("config and sha256 must be objects")
            return said
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; ConfigError if it cannot be read."""
    try:
        return regular(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def verify(folder: Path, content: Mapping[str, bytes], description: Json) -> None:
    """Raise ConfigError for a file whose digest is not the one in the JSON file."""
    for name, data in content.items():
        if hashlib.sha256(data).hexdigest() != description["sha256"].get(name):
            raise ConfigError(f"{folder / name}: is damaged, or was written after its JSON file; export it again")


def tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file with this content; ConfigError, which names `path`, if it is none."""
    with fitting(path, "is no safetensors file"):
        return from_bytes(data)


def fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict; ConfigError, which names `path`, if it does not fit the model."""
    with fitting(path, "does not fit the model"):
        put(model, state)


def put(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict that lacks the versions of its modules, as in files: it gets the model's (for MNASNet)."""
    own = model.state_dict()
    fits = own.keys() == state.keys()
    own.update(state)
    model.load_state_dict(own if fits else dict(state))
