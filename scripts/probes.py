"""Runs prunelab's command line with a stopwatch in it: `probes.py bookkeeping|first_batch [override ...]`."""

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

STARTED = "PROBE_STARTED"  # the environment variable with the time.time() at which the command was given


class Stopwatch:
    """Seconds by category. A call within another counts once: for its own category, and not for the outer one's."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.inner: list[float] = []  # for each call under way, what the calls within it have taken

    def timed(self, function: Callable[..., Any], category: str) -> Callable[..., Any]:
        """The same function, with its time added to the category."""

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
        """Times functions of a module, or methods of a class."""
        for name in names:
            setattr(owner, name, self.timed(getattr(owner, name), category))


def when_a_run_begins(install: Callable[[], None]) -> None:
    """Calls `install` once prunelab has imported what it needs, so that a probe does not change when it imports."""
    from prunelab.config import compose as composing

    original = composing.facts  # the first thing that a run asks for; its module does without torch

    def facts(*args: Any) -> Any:
        install()
        return original(*args)

    composing.facts = facts


def bookkeeping(stopwatch: Stopwatch) -> None:
    """Tracking (tables, TensorBoard, summary, log, screen) and storage (checkpoints, stages, digests, final model)."""
    from prunelab import exports as export
    from prunelab.experiment import phases
    from prunelab.experiment import run as experiment
    from prunelab.pruning import masks
    from prunelab.stages import files
    from prunelab.stages import store as stages
    from prunelab.tracking import console
    from prunelab.tracking import run_folder as run

    folder = run.RunFolder
    folder.board = property(stopwatch.timed(folder.board.fget, "tensorboard_start"))
    stopwatch.watch("tracking", folder, "__init__", "plan", "begin", "epoch", "end", "finish", "__exit__")
    stopwatch.watch("tracking", console.Console, "advance")
    stopwatch.watch("storage", stages.Store, "run", "load")
    stopwatch.watch("storage", stages.Work, "save", "load")
    stopwatch.watch("storage", files, "write_folder", "read_folder")
    stopwatch.watch("storage", masks, "snapshot")
    stopwatch.watch("storage", export, "write")
    stopwatch.watch("computing", phases, "train")  # which Store.run calls
    stopwatch.watch("computing", experiment, "prepare")


def first_batch() -> None:
    """Ends the process when training is about to begin, and prints the seconds since the command."""
    from prunelab.training import loop as training

    def stop(*_: Any) -> None:
        print(json.dumps({"seconds": time.time() - float(os.environ[STARTED])}), flush=True)
        os._exit(0)

    training._train_epoch = stop


def main() -> None:
    """Runs prunelab with one of the probes installed."""
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
