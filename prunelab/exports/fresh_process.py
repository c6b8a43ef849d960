"""Loading an exported network in a fresh process, which has nothing but its files.

python -m prunelab.exports.fresh_process KIND FOLDER WORK [TRUSTED ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from prunelab.errors import ConfigError
from prunelab.exports import finished_run
from prunelab.exports.formats import FORMATS

INPUTS, SECONDS = "inputs.safetensors", 300


def outputs(
    kind: str, folder: Path, inputs: Mapping[str, Tensor], work: Path, trusted: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Return the outputs of the network that a fresh process loads from `folder`.

    Args:
        kind: one of `FORMATS`.
        inputs: batches [n, …] by name.
        work: a folder through which the two processes exchange inputs and outputs.
        trusted: your own packages that the process may import the model from.

    Returns:
        The outputs, [n, …], by the same names.

    Raises:
        ConfigError: if the process fails; quotes the last line of its output.
    """
    save_file({name: x.contiguous() for name, x in inputs.items()}, work / INPUTS)
    # The folder that the process starts in is on its path only if it is on this one's.
    path = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    command = [sys.executable, "-m", "prunelab.exports.fresh_process", kind, str(folder), str(work), *trusted]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"export={kind}: a fresh process did not load it within {SECONDS} s") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ConfigError(f"export={kind}: a fresh process cannot load it: {said[0]}")
    return load_file(work / f"{kind}.safetensors")


@torch.no_grad()
def main(kind: str, folder: str, work: str, *trusted: str) -> None:
    """Load the network and write its outputs: this runs in the fresh process."""
    network = FORMATS[kind].load(Path(folder), finished_run.builder(trusted))
    found = {name: network(x).contiguous() for name, x in load_file(Path(work) / INPUTS).items()}
    save_file(found, Path(work) / f"{kind}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
