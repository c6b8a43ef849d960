"""Time the default experiment against a plain PyTorch script (baseline.py), and show where its time goes."""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmark_report import TIMES, Figures, report

ROOT = Path(__file__).resolve().parent.parent
QUICK, TRIES = 320, 5  # examples of each split in a smoke test; number of timings of the start-up
BASELINES = {"baseline, 0 workers": 0, "baseline, 2 workers": 2}
STRATEGIES, SEEDS = "l1,global,ln_structured,random,lottery_ticket", 4  # a sweep of 20 jobs with 4 dense networks
BARE = {"lenet": 64, "lenet_300_100": 100}  # batch sizes of the comparison with a bare loop


class Ran(NamedTuple):
    """A finished process: wall-clock seconds, processor seconds, its output, and the folder that it ran in."""

    seconds: float
    processor: float
    output: str
    folder: Path


@dataclass
class Bench:
    """Settings of all timed processes. Each runs in a new folder inside `folder`."""

    folder: Path
    config: Any  # the composed config of the default experiment
    threads: int
    limit: int | None

    def call(self, *command: str, status: int = 0, **variables: str) -> Ran:
        """Run Python with these arguments in a new folder."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(self.threads), **variables}
        here = Path(tempfile.mkdtemp(dir=self.folder))
        start, before = time.perf_counter(), os.times()
        done = subprocess.run([sys.executable, *command], cwd=here, env=environment, capture_output=True, text=True)
        seconds, after = time.perf_counter() - start, os.times()
        if done.returncode != status:
            sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2_000:]}")
        processor = sum(after[2:4]) - sum(before[2:4]) or float("nan")  # of all children; unknown on Windows
        return Ran(seconds, processor, done.stdout, here)

    def overrides(self) -> list[str]:
        """Return the overrides: on the CPU, as the baseline is, and without reusing stages."""
        return ["reuse=false", "device=cpu", *([] if self.limit is None else [f"data.limit={self.limit}"])]


def prunelab(bench: Bench) -> Figures:
    """Run the default experiment once."""
    ran = bench.call("-m", "prunelab", *bench.overrides())
    last = rows(ran.folder, "rounds.csv")[-1]
    return {
        "whole": ran.seconds,
        "processor": ran.processor,
        "loop": loop_seconds(ran.folder),
        "test_accuracy": float(last["test_accuracy"]),
        "sparsity": float(last["sparsity"]),
    }


def baseline(bench: Bench, workers: int) -> Figures:
    """Run the plain PyTorch script once, with the same settings."""
    config = bench.config
    options = {
        "epochs": config.train.epochs,
        "finetune": config.finetune.epochs,
        "rounds": config.schedule.rounds,
        "amount": config.amount,
        "batch-size": config.train.batch_size,
        "lr": config.optimizer.lr,
        "workers": workers,
        "threads": bench.threads,
        "root": bench.folder / "mnist",
    } | ({} if bench.limit is None else {"limit": bench.limit})
    ran = bench.call(str(ROOT / "scripts" / "baseline.py"), *(f"--{key}={value}" for key, value in options.items()))
    facts = json.loads(ran.output.splitlines()[-1])
    return {"whole": ran.seconds, "processor": ran.processor, "loop": facts["epoch_seconds"], **facts}


def rows(here: Path, name: str) -> list[dict[str, str]]:
    """Return a table of the only run in `here`."""
    (path,) = here.glob(f"outputs/*/*/{name}")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def loop_seconds(here: Path) -> float:
    """Return the seconds of all epochs of the only run in `here`."""
    return sum(float(row["seconds"]) for row in rows(here, "epochs.csv"))


def prepare(bench: Bench) -> None:
    """Fill the caches, which exist from the second run on: torchvision's MNIST, prunelab's cache, compiled modules."""
    shutil.copytree(ROOT / "prunelab" / "data" / "files", bench.folder / "mnist", copy_function=shutil.copyfile)
    unpack = "import sys; from torchvision.datasets import MNIST; MNIST(sys.argv[1], download=True)"
    bench.call("-c", unpack, str(bench.folder / "mnist"))
    bench.call("-m", "prunelab", "data.limit=10", "train.epochs=1", "schedule.rounds=1", "device=cpu")


def compare(bench: Bench, repeats: int) -> dict[str, list[Figures]]:
    """Run all contestants in turn, so that a busy moment of the machine affects them all."""
    contestants: dict[str, Callable[[], Figures]] = {"prunelab": lambda: prunelab(bench)}
    for name, workers in BASELINES.items():
        contestants[name] = lambda workers=workers: baseline(bench, workers)
    runs: dict[str, list[Figures]] = {name: [] for name in contestants}
    for repeat in range(1, repeats + 1):
        for name, run in contestants.items():
            runs[name].append(run())
            took = f"{runs[name][-1]['whole']:.1f} s, of which the loop {runs[name][-1]['loop']:.1f} s"
            print(f"{name}, {repeat} of {repeats}: {took}", file=sys.stderr, flush=True)
    return runs


def ratio(runs: dict[str, list[Figures]], what: str) -> Figures:
    """Return the time of the faster baseline ÷ that of prunelab: by medians, and the extremes over the repeats."""
    taken = {name: [run[what] for run in repeats] for name, repeats in runs.items()}
    ours = taken.pop("prunelab")
    each = [min(theirs) / own for own, *theirs in zip(ours, *taken.values(), strict=True)]
    return {"ratio": min(map(median, taken.values())) / median(ours), "least": min(each), "most": max(each)}


def bookkeeping(bench: Bench) -> Figures:
    """Run the experiment once more, with a stopwatch in it."""
    ran = bench.call(str(ROOT / "scripts" / "probes.py"), "bookkeeping", *bench.overrides())
    return {**json.loads(ran.output.splitlines()[-1]), "loop": loop_seconds(ran.folder)}


def loops(bench: Bench) -> dict[str, Figures]:
    """Return the seconds per step of prunelab's loop, of a bare one and of the matrix products alone, on one thread."""
    script, size = str(ROOT / "scripts" / "bare_loop.py"), min(bench.limit or 20_000, 20_000)
    found = {}
    for model, batch in BARE.items():
        ran = bench.call(script, f"--model={model}", f"--batch-size={batch}", f"--examples={size}", OMP_NUM_THREADS="1")
        found[model] = json.loads(ran.output)
    return found


def first_batch(bench: Bench) -> float:
    """Return the seconds from the command to the first training batch."""
    started = {"PROBE_STARTED": repr(time.time())}
    output = bench.call(str(ROOT / "scripts" / "probes.py"), "first_batch", *bench.overrides(), **started).output
    return float(json.loads(output.splitlines()[-1])["seconds"])


def sweep(bench: Bench, seeds: int, plain: float) -> Figures:
    """Run a sweep of default jobs on all cores, one thread each, and one after the other, with a thread per core.

    Args:
        seeds: number of seeds, each under five strategies.
        plain: seconds of one plain script.
    """
    from prunelab.runtime.device import cores

    words = ["-m", "prunelab", "-m", f"strategy={STRATEGIES}", f"seed=range({seeds})", *bench.overrides()[1:]]
    jobs = seeds * len(STRATEGIES.split(","))
    pool = bench.call(*words, OMP_NUM_THREADS="1").seconds
    basic = bench.call(*words, "hydra/launcher=basic", OMP_NUM_THREADS=str(cores())).seconds
    return {"jobs": jobs, "pool": pool, "basic": basic, "plain": jobs * plain}


def startup(bench: Bench) -> Figures:
    """Return median start-up times; that to the first batch also without the import of torch, which is unavoidable."""
    command = ("-m", "prunelab")
    waits: dict[str, Callable[[], float]] = {
        "import torch": lambda: bench.call("-c", "import torch").seconds,
        "--help": lambda: bench.call(*command, "--help").seconds,
        "--cfg job": lambda: bench.call(*command, "--cfg", "job").seconds,
        "wrong override (amount=1)": lambda: bench.call(*command, "amount=1", status=1).seconds,
        "first batch": lambda: first_batch(bench),
    }
    found = {name: median(wait() for _ in range(TRIES)) for name, wait in waits.items()}
    return found | {"first batch, less import torch": found["first batch"] - found["import torch"]}


def describe(bench: Bench, repeats: int) -> Figures:
    """Return what is compared, and on which machine."""
    config, load = bench.config, os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    examples = "55,000 training digits" if bench.limit is None else f"at most {bench.limit} digits of each split"
    return {
        "experiment": f"{examples}, batch {config.train.batch_size}, Adam {config.optimizer.lr}: "
        f"{config.train.epochs} epochs dense, {config.schedule.rounds} rounds of amount {config.amount}, "
        f"epochs each: {config.finetune.epochs}",
        "torch": importlib.metadata.version("torch"),
        "threads": bench.threads,
        "repeats": repeats,
        "tries": TRIES,
        "load": "unknown" if load is None else f"{load:.2f}{', other processes are running' * (load > 0.5)}",
    }


def parse() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch, on both sides; default: what prunelab chooses")
    parser.add_argument("--limit", type=int, help="at most so many examples of each split, on both sides")
    parser.add_argument("--quick", action="store_true", help=f"a smoke test: one repeat, one thread, --limit {QUICK}")
    parser.add_argument(
        "--startup",
        action="store_true",
        help="also time the start-up",
    )
    parser.add_argument("--sweep", action="store_true", help="also time a sweep of 20 jobs (5 with --quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def main() -> None:
    """Run everything and print the figures."""
    args = parse()
    if args.quick:
        args.repeats, args.threads, args.limit = 1, args.threads or 1, args.limit or QUICK
    sys.path.insert(0, str(ROOT))
    from prunelab import compose
    from prunelab.runtime import device as hardware

    config = compose()
    with tempfile.TemporaryDirectory(prefix="prunelab-benchmark-") as folder:
        bench = Bench(Path(folder), config, args.threads or hardware.threads(config.threads), args.limit)
        figures: Figures = {"facts": describe(bench, args.repeats)}
        prepare(bench)
        figures["runs"] = compare(bench, args.repeats)
        figures["ratios"] = {what: ratio(figures["runs"], what) for what in TIMES}
        figures["bookkeeping"] = bookkeeping(bench)
        figures["loops"] = loops(bench)
        if args.sweep:
            plain = min(median(run["whole"] for run in figures["runs"][name]) for name in BASELINES)
            figures["sweep"] = sweep(bench, 1 if args.quick else SEEDS, plain)
        if args.startup:
            figures["startup"] = startup(bench)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    print(report(figures))


if __name__ == "__main__":
    main()
