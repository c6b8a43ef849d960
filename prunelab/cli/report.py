"""`prunelab report`: write a report of runs as an HTML page, and its tables as CSV and Markdown."""

import sys
from collections.abc import Sequence
from pathlib import Path

from prunelab.cli.arguments import failed, parser
from prunelab.cli.runs import runs_in
from prunelab.errors import ConfigError, need
from prunelab.runtime.streams import say
from prunelab.stages import files
from prunelab.text import visible

EPILOG = """\
The tables of the page are written beside it: report.md, report_results.csv, report_pareto.csv and so on. CSV files
contain fractions, not percent. Run folders are only read, never changed."""
DESCRIPTION = "Write one HTML page about runs: accuracy over sparsity, tables, Pareto front, comparisons."
NEEDED = ("jinja2", "matplotlib", "pandas", "scipy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit status 0; after an error, exit with status 1."""
    top = parser("report", DESCRIPTION, EPILOG)
    top.add_argument("folders", nargs="+", type=Path, metavar="folder", help="a run, a sweep, or a folder of them")
    top.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html in the first folder)")
    options = top.parse_args(arguments)
    out = options.out or options.folders[0] / "report.html"
    try:
        _write(options.folders, out)
    except (ConfigError, files.StorageError) as error:
        sys.exit(failed(error))
    say(out)
    return 0


def _write(folders: Sequence[Path], out: Path) -> None:
    runs = runs_in(folders)
    need("report", *NEEDED, caller="the report")
    from prunelab.report.page import Report  # imported late: needs the packages of the extra

    report, hint = Report(runs, folders), "--out chooses another"
    with files.writing(out.parent, hint):
        out.parent.mkdir(parents=True, exist_ok=True)
        texts = {out: report.html(), out.with_suffix(".md"): report.markdown()}
        texts |= {out.with_name(f"{out.stem}_{table.name}.csv"): table.csv() for table in report.tables.values()}
        for path, text in texts.items():
            files.write_file(path, visible(text).encode(), hint)
