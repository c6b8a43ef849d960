"""Latency of several networks that are timed in turns, so that other work on the machine slows all of them alike."""

import math
import random
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

Run = Callable[[Tensor], Tensor]
BATCHES = (1, 256)  # batch sizes: latency, throughput
LEAST = 1.1  # the smallest speed-up that is called one
REPEATS, WARM_UP, SECONDS = 51, 5, 7.0  # timed turns, turns before them, time limit of both together
FEWEST = 6  # the fewest turns from which a 95% interval can be taken
SLOW = 0.05  # seconds of a call; the cache does not matter to longer calls
Z = 1.96  # standard errors of a 95% interval


class Interval(NamedTuple):
    """A median and its 95% confidence interval."""

    median: float
    low: float
    high: float


class Latency(NamedTuple):
    """One network's time for one batch.

    Attributes:
        ms: milliseconds of one forward pass.
        speedup: time of the reference network ÷ time of this one, turn by turn.
    """

    ms: Interval
    speedup: Interval


Times = dict[int, dict[str, Latency]]  # by batch size, then by the network's name


def times(
    runs: Mapping[str, Run],
    inputs: Tensor,
    references: Mapping[str, str],
    repeats: int | None = None,
    seconds: float | None = None,
) -> Times:
    """Time networks at each of `BATCHES`; a batch size for which the time limit is not enough is left out.

    Arguments as of `race`; the inputs are repeated up to the batch size. None: 51 repeats, 7 seconds per batch size.
    """
    found: Times = {}
    repeats, seconds = repeats or REPEATS, seconds or SECONDS
    for n in BATCHES:
        slowest = max((one.ms.median for one in found.get(1, {}).values()), default=0.0)
        if slowest * n <= 1000 * seconds:  # else one pass would take longer, and might not fit into memory
            found[n] = race(runs, batch(inputs, n), references, repeats, seconds)
    return {n: row for n, row in found.items() if row}


def batch(inputs: Tensor, n: int) -> Tensor:
    """Return n examples; the inputs are repeated if they are fewer."""
    return inputs.repeat(-(-n // len(inputs)), *[1] * (inputs.dim() - 1))[:n]


@torch.no_grad()
def race(
    runs: Mapping[str, Run],
    x: Tensor,
    reference: str | Mapping[str, str],
    repeats: int = REPEATS,
    seconds: float = SECONDS,
) -> dict[str, Latency]:
    """Time networks on one batch. After a warm-up they take turns in random order.

    An untimed call comes before each timed call, so that every network finds its own weights in the cache, as if it
    were called again and again. Calls longer than 0.05 s need none.

    Args:
        runs: networks by name; modules should be in eval mode.
        x: the batch, [n, …], on the networks' device.
        reference: the name of the network that the others are compared with, or such a name for each network.
        repeats: turns of each network, at least 1; fewer if the time limit is over.
        seconds: time limit of warm-up and turns.

    Returns:
        The latencies by the same names; nothing if the time limit is not enough for 6 turns.
    """
    end = time.perf_counter() + seconds
    turn = _warm_up(runs, x, end)
    slow = turn > SLOW * len(runs)
    if time.perf_counter() + min(repeats, FEWEST) * turn * (1 if slow else 2) > end:
        return {}
    taken = _turns(runs, x, repeats, end, slow)
    against = dict.fromkeys(runs, reference) if isinstance(reference, str) else reference
    return {
        name: Latency(
            interval([1000 * t for t in found]),
            interval([other / t for other, t in zip(taken[against[name]], found, strict=True)]),
        )
        for name, found in taken.items()
    }


def _turns(runs: Mapping[str, Run], x: Tensor, repeats: int, end: float, slow: bool) -> dict[str, list[float]]:
    """Return the seconds of each network's turns, by name; the networks take turns in random order until `end`."""
    shuffle, names = random.Random(0), list(runs)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        shuffle.shuffle(names)
        for name in names:
            if not slow:
                _wait(runs[name](x))
            start = time.perf_counter()
            _wait(runs[name](x))
            taken[name].append(time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return taken


def _warm_up(runs: Mapping[str, Run], x: Tensor, end: float) -> float:
    """Run each network 5 times, slow ones twice. Return the seconds of the last turn; infinity if time has run out."""
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
    """Wait until the device has computed the output; a CPU has when the call returns."""
    if output.device.type != "cpu":
        torch.get_device_module(output.device).synchronize()


def interval(values: list[float]) -> Interval:
    """Return the median and its distribution-free 95% interval: the order statistics about n/2 ± 0.98 √n.

    Source: Conover 1999, "Practical nonparametric statistics", section 3.2 (normal approximation of the binomial).
    """
    ranked, n = sorted(values), len(values)
    reach = Z * math.sqrt(n) / 2
    low, high = max(math.floor(n / 2 - reach), 0), min(math.ceil(n / 2 + reach), n - 1)
    return Interval(median(ranked), ranked[low], ranked[high])
