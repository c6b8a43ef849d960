"""Layers with a gate: a parameter that decides whether the layer runs or returns its input."""

from typing import Any

import torch
from torch import Tensor, nn


class Gated(nn.Module):
    """Mixin for the class of a layer that has a gate. The parameter `gate`, shape [], belongs to the layer.

    Attributes:
        mode: `decide`: the gate decides whether the layer runs. `learn`: in training, the layer runs and the gate
            gets a gradient. `open`: the layer runs. `closed`: the layer does not run.
    """

    gate: nn.Parameter
    mode: str = "decide"

    def __call__(self, x: Tensor, *args: Any, **keywords: Any) -> Any:
        """Return the layer's output, or `x` where the gate is closed; then neither the layer nor its hooks run."""
        if self.mode == "learn" and self.training:
            return chosen(self.gate, super().__call__(x, *args, **keywords), x)
        if self.mode == "closed" or (self.mode != "open" and not self.executed):
            return x
        return super().__call__(x, *args, **keywords)

    @property
    def executed(self) -> bool:
        """Whether the gate is open: σ(gate) > 0.5."""
        return bool(self.gate > 0)


def chosen(gate: Tensor, output: Tensor, x: Tensor) -> Tensor:
    """Return g·output + (1 − g)·x, where g is 1 if σ(gate) > 0.5, else 0, and has the gradient of σ(gate).

    Args:
        gate: a number, shape [].
        output: what the layer computed from x; the same shape as x.

    Source: Bengio, Léonard & Courville 2013, "Estimating or propagating gradients through stochastic neurons",
    arXiv 1308.3432 (straight-through estimator).
    """
    soft = torch.sigmoid(gate)
    hard = (gate > 0).to(soft.dtype) + (soft - soft.detach())
    return hard * output + (1 - hard) * x


def gated_class(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass of `kind` with a gate. Its name begins with the name of `kind`: some code looks for that."""
    return type(f"{kind.__name__}Gated", (Gated, kind), {})


def gated(model: nn.Module) -> list[Gated]:
    """Return the layers that have gates, in the model's own order."""
    return [module for module in model.modules() if isinstance(module, Gated)]


def settle(model: nn.Module) -> None:
    """Fix the current decision of every gate, for `torch.export` and ONNX, whose graphs cannot branch on a parameter.

    The graph then does not contain the layers whose gates are closed.
    """
    for layer in gated(model):
        layer.mode = "open" if layer.executed else "closed"
