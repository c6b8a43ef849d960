"""The outputs of an exported network that is loaded in a fresh process, which has nothing but its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from prunelab.errors import ConfigError
from prunelab.exports import finished_run
from prunelab.exports.formats import FORMATS
from prunelab.runtime import fresh_process

INPUTS, OUTPUTS = "inputs.safetensors", "outputs.safetensors"


def outputs(kind: str, folder: Path, inputs: Mapping[str, Tensor], trusted: Iterable[str] = ()) -> dict[str, Tensor]:
    """Return the outputs of the network that a fresh process loads from `folder`.

    Args:
        kind: one of `FORMATS`.
        folder: has the network's files; the two processes exchange inputs and outputs through it.
        inputs: batches [n, …] by name.
        trusted: your own packages that the process may import the model from.

    Returns:
        The outputs, [n, …], by the same names.

    Raises:
        ConfigError: if the process fails; quotes its error.
    """
    save_file({name: x.contiguous() for name, x in inputs.items()}, folder / INPUTS)
    try:
        fresh_process.call(write_outputs, kind, str(folder.resolve()), torch.get_num_threads(), list(trusted))
    except RuntimeError as error:
        raise ConfigError(f"export={kind}: a fresh process cannot load it: {error}") from error
    return load_file(folder / OUTPUTS)


@torch.no_grad()
def write_outputs(kind: str, folder: str, threads: int, trusted: list[str]) -> None:
    """Load a network and write its outputs: this runs in the fresh process."""
    torch.set_num_threads(threads)
    network = FORMATS[kind].load(Path(folder), finished_run.builder(trusted))
    found = {name: network(x).contiguous() for name, x in load_file(Path(folder) / INPUTS).items()}
    save_file(found, Path(folder) / OUTPUTS)
