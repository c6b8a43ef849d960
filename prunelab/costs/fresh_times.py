"""Time networks in a fresh process, whose malloc is in a fixed state.

By default glibc's malloc learns from what a process has freed: after training it keeps the memory of activations, in a
new process it returns it to the system at each call and asks for it again, which may take longer than the network.
"""

import ctypes
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from prunelab.costs import latency
from prunelab.costs.latency import Interval, Latency, Run, Times
from prunelab.errors import one_line
from prunelab.runtime import fresh_process

# Parameters of glibc's mallopt(3): memory comes from the heap and stays there.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
KEPT = {M_TRIM_THRESHOLD: 2**30, M_MMAP_MAX: 0}
SAID = "MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_MAX_=0"  # the same as environment variables
FEW = 11  # turns with malloc's default


class Timed(NamedTuple):
    """The times of several networks.

    Attributes:
        times: with malloc in the fixed state.
        default: with malloc as it is in a new process, from fewer turns; empty if there is no fixed state.
        where: the process and the state of its malloc, to be said beside the times.
    """

    times: Times
    default: Times
    where: str


class Timeable(NamedTuple):
    """A network, and a function that loads it in another process; None: it is pickled."""

    run: Run
    load: Callable[[], Run] | None = None


def time_fresh(runs: Mapping[str, Timeable], inputs: Tensor, references: Mapping[str, str]) -> Timed:
    """Time networks at each batch size, in a fresh process if they can be brought there, else in this one.

    Arguments as of `latency.times`; the networks are on the CPU.
    """
    with tempfile.TemporaryDirectory(prefix="prunelab.") as folder:
        path, threads = Path(folder) / "networks.pt", torch.get_num_threads()
        try:
            pickled = {name: (None if entry.load else entry.run, entry.load) for name, entry in runs.items()}
            torch.save((pickled, inputs, dict(references)), path)
            found = fresh_process.call(time_here, str(path), threads, latency.REPEATS, latency.SECONDS)
        except Exception as error:  # whatever pickling a user's module, or importing it again, raises
            why = f"a fresh one cannot run them: {type(error).__name__}: {one_line(error)[:200]}"
            times = latency.times({name: entry.run for name, entry in runs.items()}, inputs, references)
            return Timed(times, {}, f"in the process of the run, with malloc as training left it ({why})")
    times, default = (
        {
            int(n): {name: Latency(Interval(*ms), Interval(*speedup)) for name, (ms, speedup) in row.items()}
            for n, row in some.items()
        }
        for some in found  # which came as JSON
    )
    state = f"malloc keeps freed memory ({SAID})" if default else "malloc is the platform's"
    return Timed(times, default, f"in a fresh process where {state}")


def time_here(path: str, threads: int, repeats: int, seconds: float) -> tuple[Times, Times]:
    """Time the networks of a file that the calling process has just written. Runs in the fresh process.

    Returns the times with malloc in its fixed state, and by its default.
    """
    torch.set_num_threads(threads)
    held, inputs, references = torch.load(path, weights_only=False)
    runs = {name: run if load is None else load() for name, (run, load) in held.items()}
    default: Times = {}
    if platform.libc_ver()[0] == "glibc" and "malloc" not in os.environ.get("LD_PRELOAD", ""):  # none is preloaded
        default = latency.times(runs, inputs, references, min(FEW, repeats), seconds / 2)
        keep_freed_memory()
    return latency.times(runs, inputs, references, repeats, seconds), default


def keep_freed_memory() -> None:
    """Let glibc's malloc take all memory from the heap and keep it, for as long as this process lives."""
    for parameter, value in KEPT.items():
        ctypes.CDLL(None).mallopt(parameter, value)
