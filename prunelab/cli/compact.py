"""`prunelab compact RUN`: make the network of a finished run really smaller, and prove that it computes the same."""

from collections.abc import Sequence

from prunelab.cli.arguments import failed, run_parser
from prunelab.errors import ConfigError
from prunelab.runtime.streams import say

DESCRIPTION = """\
Removes the channels, neurons and layers of a finished run's network that have no weights left.

Proves on random inputs and on the test set that the small network computes the same, writes compact.safetensors and
compact.json beside model.safetensors, and prints what both networks cost."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return its exit status: 1 for what cannot be compacted, or if the proof fails."""
    options = run_parser("compact", DESCRIPTION).parse_args(arguments)
    from prunelab.compaction import finish
    from prunelab.costs import form_cost
    from prunelab.costs.card import Form, cost_card
    from prunelab.exports import examples, finished_run
    from prunelab.runtime import device
    from prunelab.tracking import run_lock

    folder = options.folder
    try:
        network = finished_run.read(folder, options.trusted, stale=True)
        device.prepare("cpu", finished_run.threads(network))
        test = finished_run.test_split(network)
        with run_lock.locked(folder):
            compacted = finish.finish(network.model, test, folder, (network.config or {}).get("round_to"))
        forms = {"masked (torch)": Form(network.model), "compact (torch)": finish.form(compacted, folder)}
        costs = cost_card(forms, examples(test)["test"])
    except (ConfigError, OSError) as error:
        return failed(error)
    say(f"{form_cost.table(costs)}\n\n{compacted}")
    return 0 if compacted.proof.agree else 1
