"""Write docs/results/NAME.md from the folder of a sweep: python scripts/results_page.py NAME FOLDER."""

import sys
from pathlib import Path

from prunelab.report.run_folders import read_sweep
from prunelab.reproduce.reference import reference
from prunelab.reproduce.results_page import page
from prunelab.reproduce.verdict import measure


def main(name: str, folder: str) -> None:
    """Write the page of a preset."""
    runs, published = read_sweep(Path(folder)), reference(name)
    out = Path(__file__).parent.parent / "docs" / "results" / f"{name}.md"
    out.parent.mkdir(exist_ok=True)
    out.write_text(page(name, published, runs, measure(published, runs)), encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
