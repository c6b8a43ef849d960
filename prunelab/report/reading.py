"""Run folders, as they are on disk: old ones lack columns, keys and files, and none of that is an error."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prunelab.report.jobs import read_summary

Row = dict[str, Any]
TEXT = ("stage", "reused", "tensor", "shape")  # columns that hold no numbers
COST_TEXT = ("form", "why_no_faster", "why_no_peak")  # of the cost card
RUN, SWEEP = ("summary.json", "rounds.csv"), "sweep.json"


@dataclass(frozen=True)
class Run:
    """One job. `sweep` is the folder of its sweep, None for a single run."""

    folder: Path
    overrides: tuple[str, ...]
    status: str
    summary: Row
    sweep: Path | None = None

    @property
    def seed(self) -> int | str:
        """The seed; where no summary tells it, the folder, so that two unknown seeds are never taken for one."""
        seed = self.summary.get("seed")
        given = next((item[5:] for item in self.overrides if item.startswith("seed=")), "")
        return seed if isinstance(seed, int) else int(given) if given.lstrip("-").isdigit() else str(self.folder)

    @property
    def config(self) -> Row:
        """The composed config; empty where the summary has none."""
        config = self.summary.get("config")
        return config if isinstance(config, dict) else {}

    @cached_property
    def rounds(self) -> dict[int, Row]:
        """The rows of `rounds.csv` by round, the last one if there are two; else what the summary has."""
        rows = read_rows(self.folder / "rounds.csv") or [self._of_summary("dense"), self._of_summary("final")]
        return {int(row["round"]): row for row in rows if row.get("round") is not None}

    @cached_property
    def final(self) -> Row:
        """The row that is the result: the summary says which; without one, the last."""
        final = self._of_summary("final")
        return final or (self.rounds[max(self.rounds)] if self.rounds else {})

    @cached_property
    def epochs(self) -> list[Row]:
        """The rows of `epochs.csv`."""
        return read_rows(self.folder / "epochs.csv")

    @cached_property
    def layers(self) -> list[Row]:
        """The rows of `layers.csv` of the final round."""
        rows = read_rows(self.folder / "layers.csv")
        return [row for row in rows if row.get("tensor") and row.get("round") == self.final.get("round")]

    @cached_property
    def cost(self) -> list[Row]:
        """The rows of the cost card, numbers as numbers; of a speed-up its median."""
        rows = self.summary.get("cost")
        known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        return [
            {
                key: str(row[key]) if key in COST_TEXT else number(_median(row[key]))
                for key in row
                if row[key] is not None
            }
            for row in known
            if isinstance(row.get("form"), str)
        ]

    def _of_summary(self, key: str) -> Row:
        row = self.summary.get(key)
        return {name: _cell(name, value) for name, value in row.items()} if isinstance(row, dict) else {}


def _median(value: Any) -> Any:
    """Of a median and its interval the median; of a number itself."""
    return value[0] if isinstance(value, list) and value else value


def number(value: Any) -> float | None:
    """A finite number; None for anything else, a diverged run's NaN too."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file, numbers as numbers; none if it is missing or not readable."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            return [{key: _cell(key, cell) for key, cell in zip(header, cells, strict=False)} for cells in reader]
    except (OSError, csv.Error):
        return []


def _cell(key: str, value: Any) -> Any:
    return value if key in TEXT else number(value)


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """The runs in sweep folders, in single run folders, and in folders of either; each once."""
    found: dict[Path, Run] = {}
    for folder in folders:
        for run in _runs(folder):
            found.setdefault(run.folder.resolve(), run)
    return list(found.values())


def _runs(top: Path) -> Iterator[Run]:
    for name, folders, files in os.walk(top):
        folder = Path(name)
        if SWEEP in files:
            yield from _sweep(folder)
        elif any(file in files for file in RUN):
            yield _single(folder)
        else:  # stages are no runs, and are many
            folders[:] = sorted((f for f in folders if f != "stages" and not f.startswith(".")), key=_natural)
            continue
        folders.clear()


def _natural(name: str) -> tuple[int, str]:
    return (int(name) if name.isdigit() else -1, name)


def _sweep(folder: Path) -> Iterator[Run]:
    try:
        jobs = json.loads((folder / SWEEP).read_bytes())["jobs"]
        listed = [tuple(map(str, overrides)) for overrides in jobs]
    except (OSError, ValueError, KeyError, TypeError):  # a damaged list: the folders themselves say what there is
        yield from (_single(path) for path in sorted(folder.iterdir()) if any((path / name).exists() for name in RUN))
        return
    for job, overrides in enumerate(listed):
        run = folder / str(job)
        summary = read_summary(run)
        yield Run(run, overrides, _status(summary), summary or {}, folder)


def _single(folder: Path) -> Run:
    summary = read_summary(folder)
    try:
        words = shlex.split(str((summary or {}).get("command", "")))
    except ValueError:
        words = []
    overrides = tuple(word for word in words[3:] if "=" in word)  # after python -m prunelab
    return Run(folder, overrides, _status(summary), summary or {})


def _status(summary: Row | None) -> str:
    """As in `read_sweep`: `missing` without a summary, `unfinished` if it never ended."""
    status = "missing" if summary is None else str(summary.get("status", "unfinished"))
    return "unfinished" if status == "running" else status


def sweep_command(folder: Path) -> str | None:
    """The command that made a sweep, from Hydra's `multirun.yaml`; None if that cannot be read."""
    from omegaconf import OmegaConf  # only where a sweep is reported

    try:
        given: Any = OmegaConf.to_container(OmegaConf.load(folder / "multirun.yaml"))
        given = given["hydra"]["overrides"]
        hydra = [item for item in given["hydra"] if not item.startswith(("hydra.mode=", "hydra.sweep.dir="))]
        return " ".join(["python -m prunelab -m", *map(shlex.quote, [*hydra, *given["task"]])])
    except Exception:  # whatever an old or cut file raises: the report goes on without it
        return None
