"""`prunelab compact RUN`: make the network of a finished run really smaller, and prove that it computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prunelab.cli.arguments import failed, run_parser
from prunelab.errors import ConfigError
from prunelab.runtime.streams import say

if TYPE_CHECKING:
    from prunelab.compaction import Compacted
    from prunelab.costs.form_cost import FormCost

DESCRIPTION = """\
Removes the channels, neurons and layers of a finished run's network that have no weights left.

Proves on random inputs and on the test set that the small network computes the same, writes compact.safetensors and
compact.json beside model.safetensors, and prints what both networks cost."""


def run(folder: Path, trusted: Sequence[str] = ()) -> tuple[Compacted, list[FormCost]]:
    """Compact the network of a run folder.

    Args:
        folder: of a finished run.
        trusted: your packages that the run's model and data may be imported from; the list in the run's own config
            does not count.

    Returns:
        The compact network with its proof, and the rows of the cost card.

    Raises:
        ConfigError: if the folder holds no finished run.
    """
    from prunelab.compaction import finish
    from prunelab.costs.card import Form, cost_card
    from prunelab.exports import examples, finished_run
    from prunelab.runtime import device
    from prunelab.tracking import run_lock

    network = finished_run.read(folder, trusted, stale=True)
    device.prepare("cpu", finished_run.threads(network))
    test = finished_run.test_split(network)
    with run_lock.locked(folder):
        compacted = finish.finish(network.model, test, folder, (network.config or {}).get("round_to"))
    forms = {"masked (torch)": Form(network.model), "compact (torch)": finish.form(compacted, folder)}
    return compacted, cost_card(forms, examples(test)["test"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return its exit status: 1 for what cannot be compacted, or if the proof fails."""
    options = run_parser("compact", DESCRIPTION).parse_args(arguments)
    try:
        compacted, costs = run(options.folder, options.trusted)
    except (ConfigError, OSError) as error:
        return failed(error)
    from prunelab.costs.form_cost import table

    say(f"{table(costs)}\n\n{compacted}")
    return 0 if compacted.proof.agree else 1
