"""Read runs from their folders. Files, columns and keys that older versions did not write are treated as missing."""

import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from prunelab.runtime.json_data import read_json
from prunelab.stages import files
from prunelab.tracking import csv_files

Numbers = Mapping[str, float | None]  # one row of a CSV file by column; None where a cell is no finite number
RUN, SWEEP = ("summary.json", "rounds.csv"), "sweep.json"
# The types in a summary. Another program may have written it: a value of another type counts as missing.
KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("status", "command", "started", "device"), str),
    **dict.fromkeys(("seed", "threads"), int),
    **dict.fromkeys(("config", "live", "versions", "dense", "final", "baseline"), dict),
    "seconds": (int, float),
    **dict.fromkeys(("cost", "problems"), list),
}


@dataclass(frozen=True)
class Run:
    """One run, alone or as a job of a sweep.

    Args:
        folder: where its files are.
        overrides: as given on the command line, e.g. `("strategy=l1", "seed=0")`.
        status: completed, failed, interrupted, unfinished (not ended, or killed) or missing (no summary).
        summary: the content of `summary.json`; empty if there is none.
        sweep, number: the folder of its sweep, and its number there; None and 0 for a single run.
        matches: whether the folder holds the run of these overrides; if not, nothing of it is shown.
    """

    folder: Path
    overrides: tuple[str, ...]
    status: str
    summary: Mapping[str, Any]
    sweep: Path | None = None
    number: int = 0
    matches: bool = True

    @property
    def seed(self) -> int | str:
        """The seed; if it is unknown the folder, so that two unknown seeds are never taken for the same one."""
        seed = self.summary.get("seed")
        given = next((item[5:] for item in self.overrides if item.startswith("seed=")), "")
        return seed if isinstance(seed, int) else int(given) if re.fullmatch("[0-9]{1,19}", given) else str(self.folder)

    @property
    def config(self) -> Mapping[str, Any]:
        """The composed config, in which a live model and live data have names of their own; empty if there is none."""
        config, live = self.summary.get("config", {}), self.summary.get("live", {})
        return {**config, **{key: {"_target_": name} for key, name in live.items() if key in config}}

    @property
    def given(self) -> tuple[str, ...]:
        """What was given to the run: its overrides, and a live model and live data by their names, as `model=Net`."""
        return (*self.overrides, *(f"{key}={name}" for key, name in self.summary.get("live", {}).items()))

    @property
    def seconds(self) -> float | None:
        """The duration of the whole run."""
        return number(self.summary.get("seconds"))

    @property
    def error(self) -> str:
        """The first line of the error message; empty if there is none."""
        return next(iter(str(self.summary.get("error") or "").strip().splitlines()), "")

    @property
    def problems(self) -> list[str]:
        """What could not be made at the end of the run, one line each."""
        return list(map(str, self.summary.get("problems") or ()))

    @property
    def result(self) -> Numbers:
        """The final round as the summary has it; empty if the run did not reach it."""
        return self._summary_row("final")

    @property
    def baseline(self) -> Numbers:
        """The dense network that was trained as long as the pruned one; empty if there is none."""
        return self._summary_row("baseline")

    @cached_property
    def rounds(self) -> dict[int, Numbers]:
        """The rows of `rounds.csv` by round, or else the first and the final one from the summary."""
        rows = self._rows("rounds.csv") or [self._summary_row("dense"), self.result]
        return {int(known): row for row in rows if (known := row.get("round")) is not None}

    @cached_property
    def final(self) -> Numbers:
        """The final round; without one in the summary the last round that `rounds.csv` has."""
        return self.result or (self.rounds[max(self.rounds)] if self.rounds else {})

    @cached_property
    def epochs(self) -> list[Numbers]:
        """The rows of `epochs.csv`."""
        return self._rows("epochs.csv")

    @cached_property
    def layers(self) -> dict[str, float | None]:
        """The sparsity of each tensor at the final round, by the tensor's name."""
        rows = [(row, number(row.get("round"))) for row in self._text_rows("layers.csv")]
        at = self.final.get("round")
        return {row["tensor"]: number(row.get("sparsity")) for row, known in rows if row.get("tensor") and known == at}

    @cached_property
    def cost(self) -> list[Mapping[str, Any]]:
        """The cost of each form of the network: the rows of the cost card."""
        rows = self.summary.get("cost")
        known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        return [row for row in known if isinstance(row.get("form"), str)]

    def _rows(self, name: str) -> list[Numbers]:
        return [{key: number(cell) for key, cell in row.items()} for row in self._text_rows(name)]

    def _text_rows(self, name: str) -> list[dict[str, str]]:
        """Return the rows of a CSV file that are of the summary's config; without one, of the first row's."""
        rows = csv_files.read(self.folder / name) if self.matches else []
        wanted = self.summary.get("digest") or next((row.get("config") for row in rows), None)
        return [row for row in rows if row.get("config") in (None, wanted)]

    def _summary_row(self, key: str) -> Numbers:
        return {name: number(value) for name, value in self.summary.get(key, {}).items()}


def number(value: Any) -> float | None:
    """Return a finite number as float, and None for anything else, also for the NaN of a diverged run."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's `summary.json`, as far as its types are right; None if it cannot be read."""
    try:
        summary = read_json(folder / "summary.json")
    except (OSError, ValueError):
        return None
    if not isinstance(summary, dict):
        return None
    return {key: value for key, value in summary.items() if isinstance(value, KINDS.get(key, object))}


def note_failure(folder: Path, message: str) -> None:
    """Write a summary for a job that failed before it could write one itself."""
    if read_summary(folder) is None and folder.is_dir():
        summary = {"status": "failed", "error": message}
        files.write_file(folder / "summary.json", json.dumps(summary, indent=2).encode())


def read_sweep(folder: Path) -> list[Run]:
    """Return the jobs of a sweep in their order, also those without a folder.

    Raises OSError, ValueError, KeyError or TypeError if `sweep.json` is missing, damaged, or names a folder elsewhere.
    """
    plan = read_json(folder / SWEEP)
    listed = [tuple(map(str, overrides)) for overrides in plan["jobs"]]
    folders = plan.get("folders") or [str(number) for number in range(len(listed))]  # those of older versions
    if not all(map(files.is_below, folders)):
        raise ValueError(f"{folders}: must be below the sweep's folder")
    runs = (read_run(folder / name, given, folder) for name, given in zip(folders, listed, strict=True))
    return [replace(run, number=number) for number, run in enumerate(runs)]


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """Return the runs below folders, each once. A folder is a run, a sweep, or contains these at any depth."""
    found: dict[str, Run] = {}
    for folder in folders:
        for run in _runs(folder):
            found.setdefault(os.path.realpath(run.folder), run)
    return list(found.values())


def _runs(top: Path) -> Iterator[Run]:
    for name, folders, names in os.walk(top):
        folder = Path(name)
        if SWEEP in names:
            yield from _sweep(folder)
        elif any(file in names for file in RUN):
            yield read_run(folder)
        else:  # the many folders of stored stages contain no runs
            folders[:] = sorted((f for f in folders if f != "stages" and not f.startswith(".")), key=_numeric)
            continue
        folders.clear()


def _numeric(name: str) -> tuple[int, str]:
    """Return a sort key that places folder 10 after folder 9."""
    return (int(name) if name.isdecimal() else -1, name)


def _sweep(folder: Path) -> list[Run]:
    try:
        return read_sweep(folder)
    except (OSError, ValueError, KeyError, TypeError):  # a damaged list of jobs: take the folders that exist
        return [read_run(path) for path in sorted(folder.iterdir()) if any((path / name).exists() for name in RUN)]


def read_run(folder: Path, overrides: tuple[str, ...] | None = None, sweep: Path | None = None) -> Run:
    """Return one run; without `overrides`, they are taken from the command in its summary.

    A run of other overrides counts as missing.
    """
    summary = read_summary(folder)
    try:
        command = shlex.split((summary or {}).get("command", ""))
    except ValueError:
        command = []
    given = tuple(word for word in command[1:] if "=" in word)
    if overrides is not None and command and sorted(given) != sorted(item for item in overrides if "=" in item):
        return Run(folder, overrides, "missing", {}, sweep, matches=False)
    status = "missing" if summary is None else str(summary.get("status", "unfinished"))
    status = "unfinished" if status == "running" else status
    return Run(folder, given if overrides is None else overrides, status, summary or {}, sweep)
