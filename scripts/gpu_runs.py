"""Parts of gpu_check.py that run tests and whole experiments on a GPU; each returns its figures."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
Figures = dict[str, str | float | int]
FILES = ("model.safetensors", "masks.safetensors")
SEEDS, KILLS = (0, 1, 2), (1, 3, 5)  # KILLS: epochs after which a run is killed


class Setting(NamedTuple):
    """What all parts share: the device, whether this is a smoke test, and a folder that is empty at first."""

    device: str
    quick: bool
    work: Path

    def start(self, name: str, *overrides: str) -> subprocess.Popen[str]:
        """Start `python -m prunelab` in the folder `name`."""
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        small = ["data.limit=300"] if self.quick else []
        words = [sys.executable, "-m", "prunelab", *small, *overrides]
        return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def run(self, name: str, *overrides: str) -> float:
        """Run `python -m prunelab` in the folder `name`; return its seconds."""
        start = time.perf_counter()
        wait(self.start(name, *overrides))
        return time.perf_counter() - start

    def newest(self, name: str) -> Path:
        """Return the newest run folder in the folder `name`."""
        return max(path for path in (self.work / name).glob("outputs/*-*-*/*") if path.is_dir())

    def table(self, name: str, file: str) -> list[dict[str, str]]:
        """Return a CSV table of the newest run in the folder `name`; empty if it does not exist yet."""
        try:
            return list(csv.DictReader((self.newest(name) / file).read_text().splitlines()))
        except (OSError, ValueError):
            return []

    def same_bits(self, one: str, other: str) -> str:
        """Return whether two runs ended with the same weights and masks."""
        same = all((self.newest(one) / file).read_bytes() == (self.newest(other) / file).read_bytes() for file in FILES)
        return "yes" if same else "NO"


def wait(process: subprocess.Popen[str]) -> None:
    """Wait for a process; RuntimeError with the last line of its errors if it fails."""
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError((errors.strip().splitlines() or [f"exit status {process.returncode}"])[-1])


def gpu_tests(setting: Setting) -> Figures:
    """`pytest -m "gpu and not slow"`: the tests that need a GPU."""
    return pytest(setting, "gpu and not slow")


def suite(setting: Setting) -> Figures:
    """`pytest`: the quick suite, in which `device=auto` means the GPU."""
    return pytest(setting, "not slow")


def pytest(setting: Setting, marker: str) -> Figures:
    """Run the tests with a marker, one process for each core but at most 16."""
    workers = str(min(len(os.sched_getaffinity(0)), 16))
    words = ["-q", "-m", marker, "-p", "no:cacheprovider", "-n", workers, "--maxprocesses", workers]
    words += ["tests/pruning"] if setting.quick else []
    log = setting.work / f"pytest-{marker.replace(' ', '-')}.txt"
    with log.open("w") as file:
        subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    lines = log.read_text().strip().splitlines() or ["no output"]
    failed, last = [line.split()[1] for line in lines if line.startswith(("FAILED", "ERROR"))], lines[-1]
    return {"result": last.strip("= ")} | dict.fromkeys(failed[:40], "failed")


def default_run(setting: Setting) -> Figures:
    """`python -m prunelab device=…`: the default experiment (LeNet, MNIST: 3 epochs dense, 5 rounds of 1 epoch).

    On the GPU twice and on the CPU once, one after the other; other seeds side by side, for the accuracy only.
    """
    found: Figures = {}
    for name, device in (("gpu-0", setting.device), ("gpu-again", setting.device), ("cpu-0", "cpu")):
        seconds = setting.run(name, f"device={device}", "reuse=false")
        loop = sum(float(row["seconds"]) for row in setting.table(name, "epochs.csv"))
        found[f"{name}: whole process, s"] = round(seconds, 1)
        found[f"{name}: all epochs with their validation, s"] = round(loop, 1)
    found["both GPU runs bit-identical"] = setting.same_bits("gpu-0", "gpu-again")
    kinds = (("gpu", setting.device), ("cpu", "cpu"))
    others = [
        setting.start(f"{kind}-{seed}", f"device={device}", f"seed={seed}")
        for kind, device in kinds
        for seed in SEEDS[1:]
    ]
    for process in others:
        wait(process)
    for kind, _ in kinds:
        rows = [setting.table(f"{kind}-{seed}", "rounds.csv")[-1] for seed in SEEDS]
        accuracies = [float(row["test_accuracy"]) for row in rows]
        found[f"{kind}: sparsity"] = f"{float(rows[0]['sparsity']):.1%}"
        found[f"{kind}: test accuracy, seeds 0, 1, 2"] = ", ".join(f"{value:.2%}" for value in accuracies)
        found[f"{kind}: mean test accuracy"] = f"{mean(accuracies):.2%}"
    return found


def kill_and_resume(setting: Setting) -> Figures:
    """The default experiment on the GPU, killed (SIGKILL) three times and started again each time.

    It is compared with an undisturbed run of the same command.
    """
    if not (setting.work / "gpu-0").exists():
        setting.run("gpu-0", f"device={setting.device}")
    for epochs in KILLS:
        process = setting.start("killed", f"device={setting.device}")
        before = set((setting.work / "killed").glob("outputs/*-*-*/*"))
        while process.poll() is None:
            fresh = set((setting.work / "killed").glob("outputs/*-*-*/*")) - before
            if fresh and len(setting.table("killed", "epochs.csv")) >= epochs:
                time.sleep(random.uniform(0, 0.02 if setting.quick else 0.5))
                process.send_signal(signal.SIGKILL)
                process.communicate()
            time.sleep(0.005)
    killed = len([path for path in (setting.work / "killed").glob("outputs/*-*-*/*") if path.is_dir()])
    setting.run("killed", f"device={setting.device}")
    reused = sum(row["reused"] == "true" for row in setting.table("killed", "epochs.csv"))
    return {
        "runs killed": killed,
        "epochs that the last run reused": reused,
        "bit-identical to the undisturbed run": setting.same_bits("gpu-0", "killed"),
    }
