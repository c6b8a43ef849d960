"""What the gates of a network save at run time, measured."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import Tensor, nn

from prunelab.data.dataset import Split
from prunelab.pruning.gated import Gated, gated

BATCH, REPEATS, SECONDS = 256, 31, 5.0  # examples, pairs of passes, and when it stops anyway


def cost(model: nn.Module, split: Split) -> dict[str, float] | None:
    """What the gates save at run time; None for a model without gates.

    Both ways of running it, as the gates say and all open, take turns on the first 256 examples; the medians count.

    Returns:
        `layers_executed`: executed layers ÷ layers with gates. `time_saved`: 1 − time ÷ time with all gates open; 0 if
        they are.
    """
    layers = gated(model)
    if not layers:
        return None
    executed = sum(layer.executed for layer in layers) / len(layers)
    if executed == 1:
        return {"layers_executed": 1.0, "time_saved": 0.0}
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
    return {"layers_executed": executed, "time_saved": 1 - median(times["decide"]) / median(times["open"])}


@torch.no_grad()
def _pass(model: nn.Module, layers: list[Gated], mode: str, inputs: Tensor) -> float:
    """Seconds of one forward pass."""
    _set(layers, mode)
    start = time.perf_counter()
    float(model(inputs).sum())  # waits for the device
    return time.perf_counter() - start


def _set(layers: list[Gated], mode: str) -> None:
    for layer in layers:
        layer.mode = mode
