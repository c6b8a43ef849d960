"""What two networks cost, side by side: parameters, multiply-adds, bytes, and time in turns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from prunelab import metrics

Row = dict[str, Any]
BATCH, REPEATS, WARM_UP, SECONDS = 256, 31, 3, 20.0


def cost(model: nn.Module, example: Tensor) -> Row:
    """`parameters`, `macs` (of one example) and `bytes` (of a safetensors file) of a network without masks."""
    found = metrics.cost(model, metrics.layers(model, example))
    state = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    return {"parameters": found["parameters"], "macs": found["macs"], "bytes": len(save(state))}


@torch.no_grad()
def latencies(models: Mapping[str, nn.Module], x: Tensor, repeats: int = REPEATS) -> dict[str, float]:
    """The median time of a forward pass of each network, in milliseconds; other work on the machine makes it longer.

    They take turns, so that what else the machine does meets all of them alike.

    Args:
        models: by names; they are put in eval mode.
        x: a batch, [n, …].
        repeats: how often each is run, at least 1; fewer if it all takes longer than 20 s.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.eval()
    end = time.perf_counter() + SECONDS
    for repeat in range(-WARM_UP, repeats):
        for name, model in models.items():
            start = time.perf_counter()
            float(model(x).sum())  # waits for the device
            took = time.perf_counter() - start
            times[name].extend([took] if repeat >= 0 else [])
        if repeat >= 0 and time.perf_counter() > end:
            break
    return {name: 1000 * median(found) for name, found in times.items()}


def why_no_faster(dense: Row, small: Row, speedup: float) -> str | None:
    """One sentence for a compact network that is hardly faster; None for one that is."""
    if speedup >= 1.1:
        return None
    if small["parameters"] == dense["parameters"]:
        return "no speed-up: nothing was removed, and zeros that stay are multiplied like any other number"
    saved = 1 - small["macs"] / dense["macs"]
    if saved < 0.1:
        return f"no speed-up: only {saved:.0%} of the multiply-adds are gone"
    return f"no speed-up: {saved:.0%} of the multiply-adds are gone, but at this size they are not what takes the time"
