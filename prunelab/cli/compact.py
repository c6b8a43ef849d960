"""python -m prunelab.compact RUN: makes the network of a finished run really smaller, and proves it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunelab.config.schema import ConfigError

USAGE = """python -m prunelab.compact RUN [--trusted=PACKAGE ...]

Removes from the network of a finished run folder what its masks left without weights, proves on random inputs and on
the test set that it still computes the same, writes compact.safetensors and compact.json beside model.safetensors,
and prints what it costs now. A model from a package of yours is made only if you say that you trust it.
"""


def run(folder: Path, trusted: Sequence[str] = ()) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Compacts the network of a run folder.

    Args:
        trusted: packages of yours that the run's model and data may come from; what its config calls trusted is data.

    Returns:
        The facts of `prunelab.compaction.finish.finish`, and the rows of the cost card.

    Raises:
        ConfigError: for a folder that holds no finished run.
    """
    from prunelab.compaction import finish as running
    from prunelab.config import build as building
    from prunelab.costs.card import Form, cost_card
    from prunelab.exports import checkpoint as portable
    from prunelab.exports import write as making
    from prunelab.runtime import device as hardware

    network = portable.read(folder, trusted, stale=True)
    network.config.device = "cpu"
    hardware.prepare(network.config)
    test = building.called(network.config, "data", building.bind(network.config, "data")).test
    compacted, facts = running.finish(network.model, test, folder)
    forms = {"pruned": Form(network.model), "compact": running.form(compacted, folder)}
    return facts, cost_card(forms, making.examples(test)["test"])


def main(arguments: list[str]) -> int:
    """The command line; exit status 1 for what cannot be compacted, or where the proof fails."""
    folders = [argument for argument in arguments if not argument.startswith("--trusted=")]
    if len(folders) != 1 or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0 if {"-h", "--help"} & set(arguments) else 1
    trusted = [argument.partition("=")[2] for argument in arguments if argument.startswith("--trusted=")]
    try:
        facts, costs = run(Path(folders[0]), trusted)
    except (ConfigError, OSError) as error:
        print(f"prunelab: {error}", file=sys.stderr)
        return 1
    from prunelab.compaction.finish import table
    from prunelab.tracking import cost_table as cost

    print(f"{cost.table(costs)}\n\n{table(facts)}")
    return 0 if facts["agree"] else 1
