"""python -m prunelab.compact RUN: makes the network of a finished run really smaller, and proves it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from prunelab.config import ConfigError

USAGE = """python -m prunelab.compact RUN

Removes from the network of a finished run folder what its masks left without weights, proves on random inputs and on
the test set that it still computes the same, writes compact.safetensors and compact.json beside model.safetensors,
and prints what it costs now.
"""


def run(folder: Path) -> dict[str, Any]:
    """Compacts the network of a run folder; the facts are also in its `compact.json`.

    Raises:
        ConfigError: for a folder that holds no finished run.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder}: must be the folder of a finished run, with its summary.json") from error
    if summary.get("status") != "completed" or not (folder / "model.safetensors").is_file():
        raise ConfigError(f"{folder}: its run is {summary.get('status')}; must be completed")
    from omegaconf import OmegaConf
    from safetensors.torch import load_file

    from prunelab import hardware, masks
    from prunelab.compact import running
    from prunelab.lab import Lab

    config = OmegaConf.create({**summary["config"], "device": "cpu"})
    lab = Lab(config, hardware.prepare(config), lambda: None)
    model = masks.bake(lab.model)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    lab.load_data()
    return running.finish(model, lab.data.test, folder)[1]


def main(arguments: list[str]) -> int:
    """The command line; exit status 1 for what cannot be compacted, or where the proof fails."""
    if len(arguments) != 1 or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0 if {"-h", "--help"} & set(arguments) else 1
    try:
        facts = run(Path(arguments[0]))
    except (ConfigError, OSError) as error:
        print(f"prunelab: {error}", file=sys.stderr)
        return 1
    from prunelab.compact.running import table

    print(table(facts))
    return 0 if facts["agree"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
