"""`prunelab compact RUN`: make the network of a finished run really smaller, and prove that it computes the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunelab.config.schema import ConfigError

DESCRIPTION = """\
Removes the channels, neurons and layers of a finished run's network that the masks left without weights.

Proves on random inputs and on the test set that the small network computes the same, writes compact.safetensors and
compact.json beside model.safetensors, and prints what both networks cost."""


def run(folder: Path, trusted: Sequence[str] = ()) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Compact the network of a run folder.

    Args:
        folder: of a finished run.
        trusted: your packages that may be imported for the run's model and data. The `trusted` in the run's own config
            is not heeded.

    Returns:
        What `prunelab.compaction.finish.finish` reports, and the rows of the cost card.

    Raises:
        ConfigError: if the folder holds no finished run.
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return its exit status: 1 for what cannot be compacted, or if the proof fails."""
    options = _parser().parse_args(arguments)
    try:
        facts, costs = run(options.folder, options.trusted)
    except (ConfigError, OSError) as error:
        print(f"prunelab: {error}", file=sys.stderr)
        return 1
    from prunelab.compaction.finish import table
    from prunelab.tracking import cost_table as cost

    print(f"{cost.table(costs)}\n\n{table(facts)}")
    return 0 if facts["agree"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prunelab compact", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument(
        "--trusted", action="append", default=[], metavar="PACKAGE", help="your package that the model comes from"
    )
    return parser
