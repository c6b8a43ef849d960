"""The index of published results: what papers say, what was measured here, and the verdict."""

from __future__ import annotations

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
