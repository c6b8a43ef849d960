"""Compare the choices of each axis on LeNet: run them and write docs/results/choices.csv, which the site's pages read.

python scripts/compare_choices.py FOLDER [override ...]: the runs go into FOLDER; the same command goes on.
"""

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from prunelab.config.conf_folder import choices
from prunelab.report.curves import mean_and_error
from prunelab.report.run_folders import Run, read_sweep

TABLE = Path(__file__).resolve().parent.parent / "docs" / "results" / "choices.csv"
HEAD = ("axis", "choice", "overrides", "sparsity", "test_accuracy", "error", "seeds")
COMMON = ("model=lenet", "train.epochs=2", "seed=range(3)", "threads=1", "latency=false", "baseline=false")
ONCE = ("schedule=one_shot", "finetune.epochs=1")
AXES = {  # what the choices of an axis have in common, beside the defaults
    "criterion": (*ONCE, "allocation=global", "amount=0.95"),
    "granularity": (*ONCE, "allocation=local", "amount=0.5"),
    "allocation": (*ONCE, "amount=0.95"),
    "schedule": ("allocation=global", "finetune.epochs=1"),
}
STEPS = ("schedule.sparsity=0.95",)
OWN = {  # what a choice needs beside that
    "nm": ("amount=null", "allocation.n=1", "allocation.m=16"),
    "threshold": ("amount=null", "allocation.threshold=0.1"),
    **dict.fromkeys(("cubic", "geometric", "linear"), STEPS),
    "gradual": (*STEPS, "finetune.epochs=5", "schedule.every=50", "schedule.prunings=50"),
    "one_shot": ("amount=0.95", "finetune.epochs=5"),
    "iterative": ("amount=0.451",),
    "ramp": ("amount=0.235",),
    "until": ("amount=0.451", "schedule.rounds=5"),
}


def main(folder: str, *more: str) -> None:
    """Run what is missing, and write the table."""
    rows = [row for axis in AXES for row in _compared(axis, Path(folder).resolve(), more)]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])


def _compared(axis: str, folder: Path, more: tuple[str, ...]) -> Iterator[tuple[object, ...]]:
    for choice in choices(axis):
        own = OWN.get(choice, ())
        keys = {item.partition("=")[0] for item in own}
        words = [f"{axis}={choice}", *(item for item in AXES[axis] if item.partition("=")[0] not in keys), *own]
        sweep = folder / axis / choice
        command = ["-m", "prunelab", "-m", *words, *COMMON, f"outputs={folder}", f"hydra.sweep.dir={sweep}", *more]
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        yield axis, choice, " ".join(words), *_figures([run for run in read_sweep(sweep) if run.status == "completed"])


def _figures(runs: list[Run]) -> tuple[str, str, str, int]:
    """Return mean sparsity, mean test accuracy with its standard error, and the number of seeds."""
    sparsity, accuracy = ([run.final[key] or 0.0 for run in runs] for key in ("sparsity", "test_accuracy"))
    average, error = mean_and_error(accuracy)
    return f"{mean(sparsity):.4f}", f"{average:.5f}", f"{error:.5f}", len(runs)


if __name__ == "__main__":
    main(*sys.argv[1:])
