"""Write what full runs of the presets of papers gave: python scripts/results_page.py [NAME FOLDER].

With the name of a preset and the folder of its sweep, writes docs/results/NAME.md. Always writes the README's table,
which has a row for each page of at least five seeds.
"""

import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prunelab.report.jobs import names
from prunelab.report.run_folders import Run, read_sweep
from prunelab.reproduce.reference import Reference, presets, reference
from prunelab.reproduce.verdict import CHOICE, Measured, measure, rows

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"(<!-- results: .*? -->\n).*?(<!-- end of results -->)", re.DOTALL)
TABLE = """\
| `prunelab reproduce …` | published in | result | published | measured | seeds | verdict | all results |
|---|---|---|---|---|---|---|---|
"""
CHOSEN = {  # by column of rounds.csv
    "best_test_accuracy": "at the epoch of the lowest test error, which is no estimate of the error on new images",
    "early_stop_accuracy": "at the iteration of the smallest validation loss",
}
FEWEST = 5  # seeds of a result that is not preliminary


def main(name: str = "", folder: str = "") -> None:
    """Write the page of a preset, if one is named, and the table."""
    if name:
        runs, published = read_sweep(Path(folder)), reference(name)
        out = ROOT / "docs" / "results" / f"{name}.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(page(name, published, runs, measure(published, runs)), encoding="utf-8")
        print(out)
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")


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


def with_table(readme: str) -> str:
    """Return the README with the table of today's pages."""
    pages = sorted((ROOT / "docs" / "results").glob("*.md"))
    lines = [row for path in pages if (row := _row(path.stem, path.read_text(encoding="utf-8")))]
    table = TABLE + "".join(lines) if lines else "None has five seeds yet.\n"
    return MARKED.sub(lambda found: found[1] + table + found[2], readme)


def _row(name: str, text: str) -> str:
    """Return the row of a page: its first comparable result, and the number of each verdict; none if preliminary."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    head, _, *body = cells
    found = [dict(zip(head, row, strict=True)) for row in body]
    measured = [row for row in found if row["seeds"] != "0"]
    if not measured or "Preliminary: " in text:
        return ""
    first = min(measured, key=lambda row: row["verdict"] == "not comparable")  # of all that can be compared
    paper = re.match(r".*? \d{4}", text.splitlines()[2])  # authors and year
    counted = ", ".join(f"{number} {verdict}" for verdict, number in Counter(row["verdict"] for row in found).items())
    unit = " points" if first["result"] in _differences(name) else ""
    values = [
        first["result"],
        first["published"] + unit,
        first["measured"] + unit,
        first["seeds"],
        first["verdict"],
        counted,
    ]
    return f"| [{name}](docs/results/{name}.md) | {paper[0] if paper else ''} | {' | '.join(values)} |\n"


def _differences(name: str) -> list[str]:
    """Return the results of a preset that are differences between two networks, in percentage points."""
    return [value.name for value in reference(name).values if value.against] if name in presets() else []


if __name__ == "__main__":
    main(*sys.argv[1:])
