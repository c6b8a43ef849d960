"""`python -m prunelab.report`: one page, and its tables as CSV and Markdown, of one or more folders of runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from prunelab.report.reading import find_runs
from prunelab.stages import files

EPILOG = """\
Beside the page it writes the same tables: report.md, and report_results.csv, report_pareto.csv and so on, with
fractions, not percent. Nothing but run folders is read; nothing in them is changed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line. Exit status: 0, 1 for whatever failed."""
    options = _parser().parse_args(arguments)
    for folder in options.folders:
        if not folder.is_dir():
            _fail(f"{folder}: no such folder")
    runs = find_runs(options.folders)
    if not runs:
        _fail(f"{', '.join(map(str, options.folders))}: no runs in it: no sweep.json, summary.json or rounds.csv")
    out = options.out or options.folders[0] / "report.html"
    try:
        from prunelab.report.contents import report  # matplotlib is needed from here on
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        _fail('the figures need matplotlib: pip install "prunelab[report]"')
    made = report(runs, options.folders)
    eyebrow = ", ".join(folder.resolve().name for folder in options.folders)
    try:
        with files.writing(out.parent, "--out chooses another"):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(made.html(eyebrow), encoding="utf-8")
            out.with_suffix(".md").write_text(made.markdown(), encoding="utf-8")
            for table in made.tables:
                path = out.with_name(f"{out.stem}_{table.name}.csv")
                path.write_text(table.csv(), encoding="utf-8", newline="")
    except files.StorageError as error:
        _fail(str(error))
    print(out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m prunelab.report",
        description="Makes one HTML page of runs: curves, tables, the Pareto front, which differences are real.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="folder", help="a sweep, a run, or a folder of either")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html in the first folder)")
    return parser


def _fail(message: str) -> NoReturn:
    print(f"prunelab: {message}", file=sys.stderr)
    sys.exit(1)
