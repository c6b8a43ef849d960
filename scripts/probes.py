"""Run an experiment with a stopwatch in it: `python scripts/probes.py bookkeeping|first_batch [override ...]`."""

from __future__ import annotations

import functools
import json
import os
import runpy
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

STARTED = "PROBE_STARTED"  # environment variable with the time.time() at which the command was started


class Stopwatch:
    """Seconds by category. The time of a nested call counts for its own category only, not for the outer one's."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.inner: list[float] = []  # for each call in progress, the duration of its nested calls

    def timed(self, function: Callable[..., Any], category: str) -> Callable[..., Any]:
        """Return the same function, with its duration added to the category."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                self.seconds[category] += took - self.inner.pop()
                if self.inner:
                    self.inner[-1] += took

        return call

    def watch(self, category: str, owner: Any, *names: str) -> None:
        """Time functions of a module, or methods of a class."""
        for name in names:
            setattr(owner, name, self.timed(getattr(owner, name), category))


def when_a_run_begins(install: Callable[[], None]) -> None:
    """Call `install` at the beginning of the experiment, so that a probe changes nothing about the imports before."""
    from prunelab.runtime import device  # imports no torch

    original = device.limit_threads  # the first thing that `prunelab.run` calls

    def limit_threads(wanted: int | None) -> int:
        device.limit_threads = original
        install()
        return original(wanted)

    device.limit_threads = limit_threads


def bookkeeping(stopwatch: Stopwatch) -> None:
    """Time tracking (tables, TensorBoard, summary, log, screen) and storage (checkpoints, stages, final model)."""
    from prunelab import exports
    from prunelab.experiment import phase, run
    from prunelab.stages import checkpoint, files, store
    from prunelab.tracking import console
    from prunelab.tracking.run_folder import RunFolder

    RunFolder.board = property(stopwatch.timed(RunFolder.board.fget, "tensorboard_start"))
    stopwatch.watch("tracking", RunFolder, "__init__", "plan", "begin", "epoch", "end", "finish", "__exit__")
    stopwatch.watch("tracking", console.Console, "advance")
    stopwatch.watch("storage", store.Store, "run", "load")
    stopwatch.watch("storage", checkpoint.Work, "save", "load")
    stopwatch.watch("storage", files, "write_folder", "read_folder")
    stopwatch.watch("storage", phase, "snapshot")
    stopwatch.watch("storage", exports, "write")
    stopwatch.watch("computing", phase, "train")  # Store.run calls it
    stopwatch.watch("computing", run, "prepare")


def first_batch() -> None:
    """End the process when training is about to begin, and print the seconds since the command."""
    from prunelab.training import loop

    def stop(*_: Any) -> None:
        print(json.dumps({"seconds": time.time() - float(os.environ[STARTED])}), flush=True)
        os._exit(0)

    loop.permutation = stop  # the first thing that an epoch needs


def main() -> None:
    """Run prunelab with one of the probes installed."""
    probe, *overrides = sys.argv[1:]
    stopwatch = Stopwatch()
    when_a_run_begins(first_batch if probe == "first_batch" else functools.partial(bookkeeping, stopwatch))
    sys.argv = ["prunelab", *overrides]
    try:
        runpy.run_module("prunelab", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    print(json.dumps(stopwatch.seconds))


if __name__ == "__main__":
    main()
