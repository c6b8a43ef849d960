"""Run folders like those of real experiments, with numbers that a test chooses; and runs, points and curves of them."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from prunelab.report.curves import Curve, Point, curves
from prunelab.report.groups import group
from prunelab.report.run_folders import Run, find_runs

PARAMETERS, PRUNABLE = 1000, 900
SPARSITIES = (0.0, 0.2, 0.36, 0.488)  # rounds 0 to 3
Accuracy = Callable[[int, float], float]  # of seed and sparsity


def row(number: int, sparsity: float, val: float, test: float, **more: object) -> dict:
    """A row of rounds.csv."""
    nonzero = PARAMETERS - round(PRUNABLE * sparsity)
    return {
        "round": number,
        "amount": 0.2 if number else None,
        "sparsity": sparsity,
        "nonzero": nonzero,
        "parameters": PARAMETERS,
        "compression_ratio": PARAMETERS / nonzero,
        "theoretical_speedup": 1 + sparsity,
        "val_accuracy": val,
        "test_accuracy": test,
        "epochs": 1,
        "stage": f"stage{number}",
        "reused": "false",
        **more,
    }


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """A CSV file with the columns of these rows, and one that no reader knows."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*dict.fromkeys(key for row in rows for key in row), "new_column"])
        writer.writeheader()
        writer.writerows(rows)


def run(
    folder: Path, overrides: Sequence[str], rows: Sequence[dict], *, masks: bool = False, **summary: object
) -> Path:
    """A completed run with these rounds; `summary` adds to its summary, or replaces."""
    folder.mkdir(parents=True)
    write_csv(folder / "rounds.csv", rows)
    epochs = [{**r, "epoch": 1, "train_loss": 0.5 - 0.1 * r["round"]} for r in rows]
    write_csv(folder / "epochs.csv", epochs)
    layers = [
        {"round": r["round"], "tensor": t, "sparsity": r["sparsity"]}
        for r in rows
        for t in ("conv.weight", "fc.weight")
    ]
    write_csv(folder / "layers.csv", layers)
    if masks:
        save_file(
            {"conv.weight": np.array([[[[1, 0], [1, 1]]], [[[0, 0], [0, 0]]]], dtype=bool)},
            folder / "masks.safetensors",
        )
    seed = next((int(item[5:]) for item in overrides if item.startswith("seed=")), 0)
    facts = {
        "status": "completed",
        "command": " ".join(["python -m prunelab", *overrides]),
        "seed": seed,
        "config": {"seed": seed, "model": {"_target_": "prunelab.models.lenet.LeNet"}},
        "started": "2026-11-21T12:00:00+00:00",
        "versions": {"torch": "2.15.0"},
        "device": "cpu",
        "threads": 1,
        "seconds": 2.0,
        "dense": rows[0],
        "final": rows[-1],
    }
    (folder / "summary.json").write_text(json.dumps(facts | summary))
    return folder


def rounds(seed: int, accuracy: Accuracy, sparsities: Sequence[float] = SPARSITIES, dense: float = 0.9) -> list[dict]:
    """Rows at these sparsities; validation is 0.01 below test."""
    tests = [dense + 0.001 * seed, *(accuracy(seed, s) for s in sparsities[1:])]
    return [row(n, s, test - 0.01, test) for n, (s, test) in enumerate(zip(sparsities, tests, strict=True))]


def sweep(folder: Path, strategies: dict[str, Accuracy], seeds: Sequence[int] = (0, 1, 2), **how: object) -> Path:
    """A sweep of strategies × seeds; `how` goes to `run`."""
    jobs = [[f"strategy={name}", f"seed={seed}", "threads=1"] for name in strategies for seed in seeds]
    for number, job in enumerate(jobs):
        name, seed = job[0][9:], int(job[1][5:])
        run(folder / str(number), job, rounds(seed, strategies[name]), **how)
    (folder / "sweep.json").write_text(json.dumps({"turn": None, "jobs": jobs}))
    return folder


def curves_of(folder: Path, accuracies: dict[str, Accuracy], **how: object) -> list[Curve]:
    """The curves of a sweep in `folder`; `how` goes to `sweep`."""
    return curves(group(find_runs([sweep(folder / "sweep", accuracies, **how)])))


def a_run(overrides: Sequence[str] = (), status: str = "completed", folder: str = "run", **summary: object) -> Run:
    """A run that is on no disk."""
    return Run(Path(folder), tuple(overrides), status, {"final": row(1, 0.5, 0.8, 0.9), **summary})


def point(values: dict[int, float], sparsity: float = 0.5) -> Point:
    """A point with these test accuracies by seed."""
    rows = {seed: {"sparsity": sparsity, "test_accuracy": value} for seed, value in values.items()}
    return Point(group([a_run(["strategy=x"])])[0], 1, rows)
