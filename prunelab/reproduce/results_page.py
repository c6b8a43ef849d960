"""The page docs/results/NAME.md: what a full run of a preset gave."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from prunelab.report.jobs import names
from prunelab.report.run_folders import Run
from prunelab.reproduce.reference import Reference
from prunelab.reproduce.verdict import CHOICE, Measured, rows

CHOSEN = {  # by column of rounds.csv
    "best_test_accuracy": "at the epoch of the lowest test error, which is no estimate of the error on new images",
    "early_stop_accuracy": "at the iteration of the smallest validation loss",
}
FEWEST = 5  # seeds of a result that is not preliminary


def page(name: str, reference: Reference, runs: Sequence[Run], measured: Sequence[Measured]) -> str:
    """Return the page in Markdown: command, versions, seeds, table, verdicts and what is known about deviations.

    Args:
        name: of the preset.
        runs: all jobs of the sweep; those that did not complete are listed.
        measured: what they gave.
    """
    done = [run for run in runs if run.status == "completed"]
    command = shlex.join(["prunelab", "sweep", *_merged([run.overrides for run in runs])])
    versions = done[0].summary.get("versions", {}) if done else {}
    arxiv = f", arXiv {reference.arxiv}" if reference.arxiv else ""
    labels = zip(names([run.overrides for run in runs]), runs, strict=True)
    failed = [f"{label} ({run.status})" for label, run in labels if run not in done]
    seconds = sum(run.seconds or 0 for run in done)
    head, *body = rows(measured)
    chosen = f" `{CHOICE}`: {CHOSEN[reference.choice or '']}." if CHOICE in head else ""
    lines = [
        f"# {name}",
        f"{reference.paper}{arxiv}, {reference.where}. {reference.claim}",
        f"The paper's choice: {reference.selected} Here: the last epoch, under the final masks. {reference.note}",
        f"```sh\n{command}\n```",
        "Test error in percent, or its difference in percentage points; mean ± standard error over seeds. `nonzero` "
        "counts all parameters, biases included." + chosen,
        "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)),
        *(f"{row.value.name}: {row.value.known}" for row in measured if row.value.known and "not" in row.verdict),
        f"Seeds: {', '.join(str(seed) for seed in sorted({str(run.seed) for run in done}))}. "
        f"{len(done)} of {len(runs)} jobs completed, in {seconds / 60:.0f} minutes{_devices(done)}. "
        + ", ".join(f"{package} {version}" for package, version in versions.items())
        + ".",
        *(f"Not completed: {', '.join(failed)}." for _ in failed[:1]),
        *("Preliminary: fewer than five seeds." for _ in measured[:1] if max(row.seeds for row in measured) < FEWEST),
    ]
    return "\n\n".join(lines) + "\n"


def _devices(runs: Sequence[Run]) -> str:
    """Return ` on cpu` or the like; empty if no run says so."""
    found = sorted({str(device) for run in runs if (device := run.summary.get("device"))})
    return f" on {' and '.join(found)}" if found else ""


def _merged(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return the overrides of a whole sweep: `seed=0,1` for the jobs of seed=0 and seed=1."""
    found: dict[str, list[str]] = {}
    for key, _, value in (item.partition("=") for job in jobs for item in job):
        if key == "outputs":  # a folder of the machine
            continue
        if value not in found.setdefault(key, []):
            found[key].append(value)
    return [f"{key}={','.join(values)}" for key, values in found.items()]
