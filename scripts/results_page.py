"""Write what full runs of the presets of papers gave: python scripts/results_page.py [NAME FOLDER].

With the name of a preset and the folder of its sweep, writes docs/results/NAME.md. Always writes the README's table,
which has a row for each page of at least five seeds.
"""

import re
import sys
from collections import Counter
from pathlib import Path

from prunelab.report.run_folders import read_sweep
from prunelab.reproduce.reference import presets, reference
from prunelab.reproduce.results_page import page
from prunelab.reproduce.verdict import measure

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(r"(<!-- results: .*? -->\n).*?(<!-- end of results -->)", re.DOTALL)
TABLE = """\
| `prunelab reproduce …` | published in | result | published | measured | seeds | verdict | all results |
|---|---|---|---|---|---|---|---|
"""


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


def with_table(readme: str) -> str:
    """Return the README with the table of today's pages."""
    pages = sorted((ROOT / "docs" / "results").glob("*.md"))
    rows = [row for path in pages if (row := _row(path.stem, path.read_text(encoding="utf-8")))]
    table = TABLE + "".join(rows) if rows else "None has five seeds yet.\n"
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
