"""Times come from a fresh process in which malloc keeps freed memory; a fake clock says what a race must find."""

import ctypes
import resource
import sys

import pytest
import torch
from torch import nn

from prunelab.costs import fresh_times
from prunelab.costs import latency as timing
from prunelab.costs.fresh_times import Timeable, keep_freed_memory, time_fresh
from prunelab.runtime import fresh_process

INPUTS = torch.ones(3, 16)
glibc = pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")


class Clock:
    """A clock that stands still but for the networks, each of which takes its own time."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def network(self, seconds):
        def run(x):
            self.now += seconds
            return x

        return run


def test_each_network_is_compared_with_its_own_reference(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    seconds = {"dense (torch)": 0.008, "compact (torch)": 0.004, "dense (onnx)": 0.001, "compact (onnx)": 0.00125}
    runs = {name: clock.network(taken) for name, taken in seconds.items()}
    references = {name: f"dense {name.partition(' ')[2]}" for name in runs}
    found = timing.times(runs, INPUTS, references)
    assert list(found) == [1, 256]
    for row in found.values():
        assert {name: round(one.ms.median, 6) for name, one in row.items()} == {n: 1000 * s for n, s in seconds.items()}
        assert [round(one.speedup.median, 6) for one in row.values()] == [1.0, 2.0, 1.0, 0.8]


def test_a_batch_of_one_that_is_slow_leaves_the_large_one_out(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    assert list(timing.times({"a": clock.network(0.03)}, INPUTS, {"a": "a"})) == [1]  # 256 · 0.03 s > 7 s
    assert timing.times({"a": clock.network(4.0)}, INPUTS, {"a": "a"}) == {}


def faults(keep: bool) -> int:
    """Page faults of 50 passes that each allocate 40 MB and free them."""
    if keep:
        keep_freed_memory()
    else:  # M_MMAP_THRESHOLD as it is before malloc has learned anything
        ctypes.CDLL(None).mallopt(-3, 2**17)
    for turn in range(60):
        if turn == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        [torch.ones(2_000_000) for _ in range(5)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_freed_memory_is_kept_so_that_no_pass_waits_for_the_system():
    kept, returned = (fresh_process.call(faults, keep) for keep in (True, False))
    assert kept < 200 < 2000 < returned


@glibc
def test_networks_are_timed_in_another_process_that_says_its_state(monkeypatch):
    monkeypatch.setattr(timing, "REPEATS", 6)
    monkeypatch.setattr(timing, "race", lambda *given: pytest.fail("timed here"))
    runs = {"large": Timeable(nn.Linear(16, 4000)), "small": Timeable(nn.Linear(16, 1))}
    found = time_fresh(runs, INPUTS, dict.fromkeys(runs, "large"))
    assert found.where == f"in a fresh process where malloc keeps freed memory ({fresh_times.SAID})"
    assert found.times[256]["small"].speedup.median > 1
    assert found.times[256]["large"].speedup == (1.0, 1.0, 1.0)
    assert set(found.default[1]) == set(runs)


class Fails(nn.Module):
    def __reduce__(self):
        return int, ("no number",)


@pytest.mark.parametrize(
    ("run", "why"),
    [(lambda x: x, "a fresh one cannot run them: "), (Fails(), "ValueError: invalid literal for int()")],
)
def test_what_cannot_be_brought_there_is_timed_here_and_that_is_said(run, why, monkeypatch):
    monkeypatch.setattr(timing, "REPEATS", 6)
    monkeypatch.setattr(nn.Module, "forward", lambda self, x: x, raising=False)
    found = time_fresh({"a": Timeable(run)}, INPUTS, {"a": "a"})
    assert found.where.startswith("in the process of the run, with malloc as training left it (")
    assert why in found.where
    assert list(found.times) == [1, 256]
    assert found.default == {}
