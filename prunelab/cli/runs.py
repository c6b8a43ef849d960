"""`prunelab runs`: list the runs that there are, or compare two of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from prunelab.cli.arguments import parser
from prunelab.config.digest import IRRELEVANT
from prunelab.errors import ConfigError
from prunelab.records import flat
from prunelab.report.jobs import SIZES, names, sizes
from prunelab.report.run_folders import Run, find_runs, read_run
from prunelab.runtime.streams import say
from prunelab.text import percent, table, visible

DESCRIPTION = "Lists the runs in a folder, or compares two runs: the keys that differ, and the results."
EPILOG = """\
examples:
  prunelab runs
  prunelab runs outputs/sweeps
  prunelab runs outputs/2026-11-26/10-00-00 outputs/2026-11-26/10-05-00"""


def runs_in(folders: Sequence[Path]) -> list[Run]:
    """Return the runs in folders; raise ConfigError if one is not there, or there are no runs."""
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder")
    if runs := find_runs(folders):
        return runs
    raise ConfigError(f"{', '.join(map(str, folders))}: no runs found (no sweep.json, summary.json or rounds.csv)")


def listing(runs: Sequence[Run]) -> str:
    """Return a table with one line per run, the oldest first, and a line with the overrides that all of them have."""
    rows = []
    listed = sorted(runs, key=lambda run: str(run.summary.get("started", "")))
    given = [run.given for run in listed]
    shared = [item for item in next(iter(given), ()) if len(given) > 1 and all(item in items for items in given)]
    for run, name in zip(listed, names(given), strict=True):
        name = "–" if shared and not set(run.given).difference(shared) else name
        when = str(run.summary.get("started", ""))[:16].replace("T", " ")
        result = [percent(run.final.get("sparsity")), percent(run.final.get("test_accuracy"), 2)]
        rows.append([str(run.folder), when, run.status, name, *result])
    lines = table(["run", "started", "status", "overrides", "sparsity", "test accuracy"], rows, left=4)
    return "\n".join([lines, *([f"all with {visible(' '.join(shared), '')}"] if shared else [])])


def comparison(first: Run, second: Run) -> str:
    """Return the keys of the config in which two runs differ, and the rows of their results."""
    configs: list[Mapping[str, object]] = [flat(run.config) for run in (first, second)]
    keys = sorted(key for key in {*configs[0], *configs[1]} if key.split(".")[0] not in IRRELEVANT)
    differing = [key for key in keys if configs[0].get(key, "–") != configs[1].get(key, "–")]
    rows = [[key.removesuffix("._target_"), *(_value(key, config) for config in configs)] for key in differing]
    cells = [sizes([run.final] if run.final else []) for run in (first, second)]
    rows += [[name, one, other] for name, one, other in zip(SIZES, *cells, strict=True)]
    rows += [["status", first.status, second.status]]
    return table(["", str(first.folder), str(second.folder)], rows)


def _value(key: str, config: Mapping[str, object]) -> str:
    """Return a value as the command line takes it, and of a component the name of its class or function."""
    if key not in config:
        return "–"
    value = config[key]
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value).rpartition(".")[2] if key.endswith("._target_") else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit status 0."""
    top = parser("runs", DESCRIPTION, EPILOG)
    top.add_argument("folders", nargs="*", type=Path, metavar="folder", help="a folder of runs, or two runs")
    folders = top.parse_args(arguments).folders or [Path("outputs")]
    runs = runs_in(folders)
    single = [folder for folder in folders if (folder / "summary.json").is_file()]
    say(comparison(*map(read_run, folders)) if len(folders) == len(single) == 2 else listing(runs))
    return 0
