"""Measure what the gates of a network save at run time."""

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from prunelab.data.dataset import Split
from prunelab.pruning.gated import Gated, gated

BATCH, REPEATS, SECONDS = 256, 31, 5.0  # examples, pairs of forward passes, time limit


@dataclass(frozen=True)
class GateSavings:
    """What gates save."""

    layers_executed: float  # executed layers ÷ layers with gates
    time_saved: float  # 1 − time ÷ time with all gates open; 0 if all are open


def measure(model: nn.Module, split: Split) -> GateSavings | None:
    """Measure what the gates save on the first 256 examples of a split; return None for a model without gates.

    Forward passes with gates that decide and with open gates alternate; the medians of their times are compared.
    """
    layers = gated(model)
    if not layers:
        return None
    executed = sum(layer.executed for layer in layers) / len(layers)
    if executed == 1:
        return GateSavings(1.0, 0.0)
    inputs, _ = split.batch(slice(0, BATCH))
    model.eval()
    times: dict[str, list[float]] = {"decide": [], "open": []}
    end = time.perf_counter() + SECONDS
    try:
        for repeat in range(-2, REPEATS):  # two to warm up
            for mode, found in times.items():
                took = _pass(model, layers, mode, inputs)
                found.extend([took] if repeat >= 0 else [])
            if repeat >= 0 and time.perf_counter() > end:
                break
    finally:
        _set(layers, "decide")
    return GateSavings(executed, 1 - median(times["decide"]) / median(times["open"]))


@torch.no_grad()
def _pass(model: nn.Module, layers: list[Gated], mode: str, inputs: Tensor) -> float:
    """Return the seconds of one forward pass."""
    _set(layers, mode)
    start = time.perf_counter()
    float(model(inputs).sum())  # waits for the device
    return time.perf_counter() - start


def _set(layers: list[Gated], mode: str) -> None:
    for layer in layers:
        layer.mode = mode
