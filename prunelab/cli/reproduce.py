"""`prunelab reproduce`: list the published results, or run one as a sweep and compare it with the paper."""

from collections.abc import Sequence
from pathlib import Path

from prunelab.cli.arguments import failed, parser
from prunelab.errors import ConfigError
from prunelab.reproduce.reference import GROUP, Reference, presets, reference
from prunelab.runtime.streams import say
from prunelab.text import table

DESCRIPTION = """\
Lists the published results that one command runs; with the name of one, runs it as a sweep and compares the mean over
seeds with the paper. The same command goes on after an interruption. Further overrides hold for all jobs."""
EPILOG = """\
examples:
  prunelab reproduce
  prunelab reproduce snip_lenet300 --seeds 5
  prunelab reproduce snip_lenet300 --quick

Verdicts: reproduced, within 2 standard errors or 0.15 points of test error; better; not reproduced; not comparable,
because of the number of weights, where the method decides it. --quick trains on few examples, to see that everything
runs; it gives no verdict."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit status: that of the sweep, or 1 after an error."""
    top = parser("reproduce", DESCRIPTION, EPILOG)
    top.add_argument("name", nargs="?", help="the preset; none: list them")
    top.add_argument("overrides", nargs="*", metavar="override", help="such as threads=1 or outputs=FOLDER")
    top.add_argument("--seeds", type=int, metavar="N", help="number of seeds (default: 5; 1 with --quick)")
    top.add_argument("--quick", action="store_true", help="few examples, few epochs, no verdict")
    chosen = top.parse_intermixed_args(arguments)
    if chosen.name is None:
        say(listing())
        return 0
    try:
        published = reference(chosen.name)
        seeds = chosen.seeds if chosen.seeds is not None else 1 if chosen.quick else 5
        if seeds < 1:
            raise ConfigError(f"--seeds {seeds}: must be a whole number ≥ 1")
    except ConfigError as error:
        return failed(error)
    quick = published.quick if chosen.quick else ()
    words = [f"experiment=papers/{chosen.name}", f"seed=range({seeds})", *quick, *chosen.overrides]
    label = "quick" if chosen.quick else f"{seeds}_seeds"
    outputs = next((word.partition("=")[2] for word in chosen.overrides if word.startswith("outputs=")), "outputs")
    folder = Path(outputs, "reproduce", f"{chosen.name}_{label}")
    from prunelab.cli import run  # late: the list answers at once

    status = run.main(["--multirun", *words, f"hydra.sweep.dir={folder}"])
    if (folder / "sweep.json").exists():
        _compare(published, folder, chosen.quick)
    return status


def listing() -> str:
    """Return the table of the presets."""
    named = [(name, reference(name)) for name in presets()]
    rows = [[name, one.arxiv, one.where, f"{one.minutes:g} min", one.claim] for name, one in named]
    head = ["preset", "arXiv", "where", "time per seed", "claim"]
    return f"{table(head, rows, left=5)}\n\nconf/{GROUP}/ has the recipes"


def _compare(published: Reference, folder: Path, quick: bool) -> None:
    """Print the table of published and measured values."""
    from prunelab.report.run_folders import read_sweep
    from prunelab.reproduce.verdict import measure, text

    measured = measure(published, read_sweep(folder), quick=quick)
    say(f"\n{published.paper}, {published.where}; test error in percent\n\n{text(measured)}")
    if quick:
        say("A quick run: a few examples and steps, to see that everything runs. The measured numbers mean nothing.")
    for row in measured:
        if row.value.known and row.verdict == "not reproduced":
            say(f"{row.value.name}: {row.value.known}")
