"""What two networks cost, side by side: parameters, multiply-adds, bytes, and time in turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from prunelab import metrics
from prunelab.export.timing import race
from prunelab.export.weights import contiguous

Row = dict[str, Any]
BATCH, REPEATS = 256, 31


def cost(model: nn.Module, example: Tensor) -> Row:
    """`parameters`, `macs` (of one example) and `bytes` (of a safetensors file) of a network without masks."""
    found = metrics.cost(model, metrics.layers(model, example))
    state = contiguous(model.state_dict())
    return {"parameters": found["parameters"], "macs": found["macs"], "bytes": len(save(state))}


def latencies(models: Mapping[str, nn.Module], x: Tensor, repeats: int = REPEATS) -> dict[str, float]:
    """The median time of a forward pass of each network, in milliseconds; see `race`.

    Args:
        models: by names; they are put in eval mode.
        x: a batch, [n, …].
        repeats: how often each is run, at least 1; fewer if it all takes longer than 10 s.
    """
    runs = {name: model.eval() for name, model in models.items()}
    return {name: latency.ms.median for name, latency in race(runs, x, next(iter(runs)), repeats).items()}


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
