"""The cost of one live module: `prunelab.cost(model, inputs)`."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunelab.costs import counts
from prunelab.costs.latency import Interval, batch, race
from prunelab.costs.memory import peak_bytes
from prunelab.costs.stored_tensors import distinct, stored
from prunelab.runtime.eval_mode import in_eval_mode


@dataclass(frozen=True, repr=False)
class Cost:
    """What a network costs; `print` shows it as a table.

    Attributes:
        parameters, nonzero: all parameters, and nonzero ones; a shared parameter counts once.
        macs, macs_nonzero: multiply-adds of one example on the weights of Conv, Linear, recurrent and attention layers,
            and those on nonzero weights.
        bytes: of the state (parameters and buffers).
        peak_bytes: memory of a forward pass of the batch; None if the model runs other operations on 2 examples than
            on 3.
        latency_ms: milliseconds of a forward pass of the batch, median with 95% interval; None if it was not timed, or
            7 s were not enough.
        batch: the number of examples.
        threads: of torch.
    """

    parameters: int
    nonzero: int
    macs: int
    macs_nonzero: int
    bytes: int
    peak_bytes: int | None
    latency_ms: Interval | None
    batch: int
    threads: int

    def __repr__(self) -> str:
        peak = "unknown" if self.peak_bytes is None else f"{self.peak_bytes:,}"
        lines = {
            "parameters": f"{self.parameters:,}",
            "nonzero": f"{self.nonzero:,}",
            "MACs": f"{self.macs:,}",
            "nonzero MACs": f"{self.macs_nonzero:,}",
            "bytes": f"{self.bytes:,}",
            f"peak bytes at batch {self.batch}": peak,
        }
        if self.latency_ms is not None:
            median, low, high = (f"{ms:.3g}" for ms in self.latency_ms)
            threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
            lines[f"ms at batch {self.batch}"] = f"{median} ({low}–{high}), {threads}"
        width = max(map(len, lines))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


@torch.no_grad()
def cost(model: nn.Module, inputs: Tensor, latency: bool = True) -> Cost:
    """Count the parameters, multiply-adds, bytes and memory of a network, and time it. The model stays as it is.

    Args:
        model: any module that takes one tensor; it is run in eval mode.
        inputs: a batch, [n, …], on the model's device.
        latency: whether to time the forward pass, for up to 7 s.
    """
    own = distinct(value for _, value in stored(model))
    nonzero, parameters = counts.nonzeros(model.parameters())
    macs, macs_nonzero = counts.macs(counts.layers(model, inputs[:1], removed=False))
    with in_eval_mode(model):
        peak = peak_bytes(model, batch(inputs, 3), own, len(inputs))
        times = race({"model": model}, inputs, "model") if latency else {}
    return Cost(
        parameters=parameters,
        nonzero=nonzero,
        macs=macs,
        macs_nonzero=macs_nonzero,
        bytes=sum(value.nbytes for value in own),
        peak_bytes=peak,
        latency_ms=times["model"].ms if times else None,
        batch=len(inputs),
        threads=torch.get_num_threads(),
    )
