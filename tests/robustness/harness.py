"""Experiments in processes that may be killed: forked from a server that has torch imported already."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path

import forked
import pytest
from filelock import FileLock
from forked import PATIENCE

from prunelab.records import RoundRecord

RESULTS = Path(__file__).parent / "results.json"
UNTIMED = ("seconds", "reused")
SMALL = (
    "device=cpu",
    "data.limit=200",
    "train.epochs=2",
    "finetune.epochs=1",
    "schedule.rounds=5",
    "threads=1",
    "train.batch_size=20",
    "latency=false",
)


def run_experiment(overrides: list[str], folder: str, environment: dict[str, str]) -> None:
    """What `python -m prunelab` does, in this process; its screen goes to a file beside the folder."""
    from prunelab import compose, run

    os.environ.update(environment)

    sys.stdout = sys.stderr = Path(f"{folder}.log").open("a")  # noqa: SIM115
    run(compose(*overrides), folder)


def start(overrides: list[str], folder: Path, **environment: str) -> BaseProcess:
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = {"PRUNELAB_CACHE": os.environ["PRUNELAB_CACHE"], **environment}
    return forked.process(run_experiment, overrides, str(folder), environment)


def finish(overrides: list[str], folder: Path) -> None:
    process = start(overrides, folder)
    process.join(120 * PATIENCE)
    assert process.exitcode == 0, Path(f"{folder}.log").read_text()


def settings(outputs: Path, *more: str) -> list[str]:
    return [*SMALL, f"outputs={outputs}", *more]


def result(folder: Path) -> dict[str, object]:
    """All that must be the same, however often a run was disturbed: weights, masks, and every figure but times."""
    tables = {}
    for name in ("rounds.csv", "epochs.csv", "layers.csv"):
        with (folder / name).open(newline="") as file:
            tables[name] = [{k: v for k, v in row.items() if k not in UNTIMED} for row in csv.DictReader(file)]
    return {name: (folder / name).read_bytes() for name in ("model.safetensors", "masks.safetensors")} | tables


def record(figure: str, **values: object) -> None:
    """Notes what a full run measured, for the README to quote."""
    with FileLock(tempfile.gettempdir() + "/prunelab-results.lock"):
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[figure] = values
        RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


def sizes(quick: int, full: int) -> list[object]:
    """A test's parameter: the quick form, and the full one behind the marker."""
    marks = [pytest.mark.slow, pytest.mark.timeout(7200)]
    return [pytest.param(quick, id="quick"), pytest.param(full, id="full", marks=marks)]


def is_full(request: object) -> bool:
    return "full" in request.node.name  # type: ignore[attr-defined]


def row(number: int) -> RoundRecord:
    """A round's record that nothing but its number matters of."""
    how = {"macs": 1, "macs_nonzero": 1, "theoretical_speedup": 1.0, "train_loss": None, "val_accuracy": 0.5}
    how |= {"test_accuracy": 0.5, "test_loss": 0.5, "epochs": 1, "seconds": 0.1, "amount": None, "sparsity": 0.0}
    return RoundRecord(round=number, sparsity_total=0.0, nonzero=1, parameters=1, compression_ratio=1.0, **how)


def cores() -> int:
    return len(os.sched_getaffinity(0))
