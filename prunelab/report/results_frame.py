"""All runs below a folder as one pandas DataFrame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelab.errors import optional
from prunelab.report.groups import choice, differing, overrides
from prunelab.report.run_folders import Run, find_runs, number

if TYPE_CHECKING:
    import pandas as pd

# fmt: off
FIRST = (  # the first columns of the final round; others follow
    "round", "sparsity", "compression_ratio", "nonzero", "parameters", "theoretical_speedup", "val_accuracy",
    "test_accuracy", "test_loss", "epochs",
)
# fmt: on
END = ("seconds", "device", "threads", "started", "command")  # columns of the whole run, from its summary
NO_RESULTS = ("stage", "reused")  # columns of a round that are no results
WHOLE = ("seed", "round", "nonzero", "parameters", "macs", "macs_nonzero", "epochs", "early_stop", "threads")
Value = str | int | float | bool | None


def results(folder: str | Path) -> pd.DataFrame:
    """Return the results of all runs below a folder, one row per run, as a DataFrame.

    The columns are: `folder`, `status` and `seed`; `strategy` and each other key in which the runs differ; the columns
    of the final round (fractions, not percent; `epochs` is the number of epochs of that round); `seconds`, `device`,
    `threads`, `started` and `command` of the whole run. Values that are not known are missing (NA, NaN or None).

    Args:
        folder: a run, a sweep, or a folder that contains runs and sweeps at any depth.

    Raises:
        FileNotFoundError: there is no such folder.
        ImportError: pandas is not installed.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    return frame(find_runs([Path(folder)]))


def frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Return the results of runs; see `results`."""
    pandas: Any = optional("pandas", "prunelab.results")
    keys = list(dict.fromkeys(["strategy", *(key for items in differing(runs) for key in items if key not in END)]))
    rows: list[Mapping[str, object]] = [
        {
            "folder": str(run.folder),
            "status": run.status,
            "seed": run.seed if isinstance(run.seed, int) else None,
            **{key: _parsed(overrides(run).get(key, choice(run, key))) for key in keys},
            **{k: value for k, value in run.final.items() if value is not None and k not in (*NO_RESULTS, *keys)},
            **{key: run.summary.get(key) for key in END},
        }
        for run in runs
    ]
    found = list(dict.fromkeys(key for row in rows for key in row))
    front = list(dict.fromkeys(["folder", "status", "seed", *keys, *FIRST]))
    table: pd.DataFrame = pandas.DataFrame(
        rows, columns=[*front, *(key for key in found if key not in {*front, *END}), *END]
    )
    for key in table.columns.intersection(WHOLE):
        table[key] = table[key].map(number).astype("Float64").round().astype("Int64")
    return table


def _parsed(text: str | None) -> Value:
    """Return the value of an override: int, float, bool, None for null, or else the text."""
    if text is None or text.lower() in ("null", "none"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
