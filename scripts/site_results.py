"""The index of published results: what papers say, what was measured here, and the verdict."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

from site_markdown import table

from prunelab.reproduce.reference import presets, reference
from prunelab.reproduce.verdict import HEADER

DOCS = Path(__file__).resolve().parent.parent / "docs"


def index() -> str:
    """Return the index of the published results: a line for each value."""
    lines = [
        (f"[{name}]({name}.md)" if has_page(name) else f"`{name}`", *row) for name in presets() for row in rows(name)
    ]
    intro = (
        "Each preset is the recipe of a published result: `prunelab reproduce NAME` runs it over seeds and compares. "
        "Test error in percent, or its difference in points; mean ± standard error over seeds; the last epoch, never "
        "the best one. Presets without a link have not been run yet."
    )
    claims = [f"- `{name}`: {reference(name).paper}. {reference(name).claim}" for name in presets()]
    values = table(("preset", "result", "published", "measured", "verdict"), lines)
    return "\n\n".join(["# Results", intro, values, "## What the papers claim", "\n".join(claims)]) + "\n"


def has_page(preset: str) -> bool:
    """Return whether a preset has been run: `scripts/results_page.py` wrote a page."""
    return (DOCS / "results" / f"{preset}.md").exists()


def rows(preset: str) -> list[tuple[str, str, str, str]]:
    """Return (result, published, measured, verdict) of each value of a preset, as its page has them."""
    if has_page(preset):
        lines = (DOCS / "results" / f"{preset}.md").read_text("utf-8").splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
        start = next(number for number, row in enumerate(cells) if row[: len(HEADER)] == list(HEADER))
        wanted = [HEADER.index(column) for column in ("result", "published", "measured", "verdict")]
        found = [row for row in cells[start + 1 :] if len(row) >= len(HEADER) and not row[0].startswith("---")]
        return [(row[wanted[0]], row[wanted[1]], row[wanted[2]], row[wanted[3]]) for row in found]
    values = reference(preset).values
    return [(v.name, "–" if v.published is None else f"{v.published:.2f}", "–", "not measured") for v in values]


@functools.cache
def compared(axis: str) -> list[dict[str, str]]:
    """Return the rows of docs/results/choices.csv of an axis, the most accurate choice first."""
    rows = csv.DictReader((DOCS / "results" / "choices.csv").read_text("utf-8").splitlines())
    return sorted((row for row in rows if row["axis"] == axis), key=lambda row: -float(row["test_accuracy"]))


def comparison(axis: str) -> list[str]:
    """Return the section that compares the choices of an axis: what ran, and a table; empty if none did."""
    found = compared(axis)
    if not found:
        return []
    text = (
        "LeNet on MNIST, two epochs of dense training, then pruned and fine-tuned as the table says, by "
        "`python scripts/compare_choices.py FOLDER`; mean ± standard error over seeds. One network, one data set, "
        "little training: it shows how the choices behave, not which is best for yours."
    )
    head = (axis, "sparsity", "test accuracy", "seeds", "command")
    lines = [
        (
            f"[`{row['choice']}`]({row['choice']}.md)",
            f"{float(row['sparsity']):.1%}",
            _accuracy(row),
            row["seeds"],
            f"`{row['overrides']}`",
        )
        for row in found
    ]
    return ["## Compared", text, table(head, lines)]


def place(axis: str, choice: str) -> list[str]:
    """Return a sentence on what a choice of an axis gave beside the others; empty if it did not run."""
    return [
        f"LeNet on MNIST with `{row['overrides']}`: {_accuracy(row)} test accuracy at {float(row['sparsity']):.1%} "
        f"sparsity ({row['seeds']} seeds). [Comparison with the other choices](index.md#compared)."
        for row in compared(axis)
        if row["choice"] == choice
    ]


def _accuracy(row: dict[str, str]) -> str:
    return f"{float(row['test_accuracy']):.2%} ± {float(row['error']):.2%}"
