"""Times of several networks that take turns, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

Run = Callable[[Tensor], Tensor]
BATCHES = (1, 256)  # one example at once, and throughput
LEAST = 1.1  # below it nobody would call it a speed-up
REPEATS, WARM_UP, SECONDS = 51, 5, 7.0  # turns of one race, turns before it, and what both may take together
FEWEST = 6  # turns that have a 95% interval
SLOW = 0.05  # seconds of a call that the cache has no part in
Z = 1.96  # of a 95% interval


class Interval(NamedTuple):
    """A median and its 95% confidence interval."""

    median: float
    low: float
    high: float


class Latency(NamedTuple):
    """One network's time for one batch.

    Attributes:
        ms: milliseconds.
        speedup: time of the reference ÷ time of this one, turn by turn.
    """

    ms: Interval
    speedup: Interval


@torch.no_grad()
def race(runs: Mapping[str, Run], x: Tensor, reference: str, repeats: int = REPEATS) -> dict[str, Latency]:
    """Times networks on one batch; they take turns, in random order, after a warm-up.

    Before each timed call comes one that is not, so that every network finds its own weights in the cache, whichever
    was before it: as where one network is called again and again. Calls that take long need none.

    Args:
        runs: by names; modules should be in eval mode.
        x: [n, …], where the networks are.
        reference: the name of the one that the others are compared with.
        repeats: turns of each, at least 1; fewer if warm-up and turns take longer than 7 s.

    Returns:
        By the same names; nothing if 7 s are not enough for 6 turns.
    """
    shuffle, names, end = random.Random(0), list(runs), time.perf_counter() + SECONDS
    turn = _warm_up(runs, x, end)
    slow = turn > SLOW * len(runs)
    if time.perf_counter() + min(repeats, FEWEST) * turn * (1 if slow else 2) > end:
        return {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        shuffle.shuffle(names)
        for name in names:
            if not slow:
                _wait(runs[name](x))
            start = time.perf_counter()
            _wait(runs[name](x))
            times[name].append(time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    dense = times[reference]
    return {
        name: Latency(interval([1000 * t for t in found]), interval([d / t for d, t in zip(dense, found, strict=True)]))
        for name, found in times.items()
    }


def _warm_up(runs: Mapping[str, Run], x: Tensor, end: float) -> float:
    """Runs each a few times, twice if it takes long; seconds of the last turn, infinite if there is no time left."""
    took = 0.0
    for turn in range(WARM_UP):
        if turn >= 2 and took > SLOW * len(runs):
            break
        start = time.perf_counter()
        for run in runs.values():
            _wait(run(x))
            if time.perf_counter() > end:
                return math.inf
        took = time.perf_counter() - start
    return took


def _wait(output: Tensor) -> None:
    """Until the device has computed it; a processor has, when the call returns."""
    if output.device.type != "cpu":
        torch.get_device_module(output.device).synchronize()


def interval(values: list[float]) -> Interval:
    """The median and its distribution-free 95% interval: the order statistics about n/2 ± 0.98 √n.

    Source: Conover 1999, "Practical nonparametric statistics", section 3.2 (normal approximation of the binomial).
    """
    ranked, n = sorted(values), len(values)
    reach = Z * math.sqrt(n) / 2
    low, high = max(math.floor(n / 2 - reach), 0), min(math.ceil(n / 2 + reach), n - 1)
    return Interval(median(ranked), ranked[low], ranked[high])
