"""Dynamic inference: a learned gate for each layer decides at run time whether the layer is executed at all."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.config.schema import ConfigError
from prunelab.pruning import blocks
from prunelab.pruning.gated import gated, gated_class
from prunelab.training.callbacks.base import Phase, check_number
from prunelab.training.loop import Routine

START = 2.0  # of a gate; σ(2) = 0.88: open


class DynamicGates(Routine):
    """Learns which layers are worth being executed, and skips the others at run time.

    y = g·f(x) + (1 − g)·x with one g ∈ {0, 1} a layer, straight-through; the loss gets strength · the mean of σ(gate).
    Only layers that keep their input's shape can be skipped. The gates are parameters of the network (`blocks.3.gate`):
    they are stored with it, and go back with the weights when these are rewound. After dense training they stay as they
    are: fine-tuning neither moves a gate nor executes a layer whose gate is closed.

    Args:
        strength: what it costs, in nats of cross-entropy, if all gates are wide open; ≥ 0.
        lr: of the gates, > 0. They start at 2 and close at 0, so that Adam needs at least 2/lr steps.
        layers: patterns over the names of modules (`blocks.*`); None: the outermost modules that are no plain
            containers, have weights of Conv, Linear, recurrent or attention layers, and keep their input's shape.

    Raises:
        ConfigError: for a value outside its range.

    Source: Wang et al. 2018, "SkipNet", arXiv 1711.09485, and Veit & Belongie 2018, "Convolutional networks with
    adaptive inference graphs", arXiv 1711.11503, whose gates look at x; here a gate is one number for all inputs.
    """

    def __init__(
        self, phase: Phase, strength: float = 0.1, lr: float = 0.01, layers: Sequence[str] | None = None
    ) -> None:
        check_number("regularizer.strength", strength, "a number ≥ 0", lambda x: x >= 0)
        check_number("regularizer.lr", lr, "a number > 0", lambda x: x > 0)
        self.layers, self.strength, self.lr = gated(phase.model), strength, lr
        for layer in self.layers:
            layer.mode = "learn"

    @staticmethod
    def prepare(
        model: nn.Module, shape: Sequence[int] | None, layers: Sequence[str] | None = None, **other: object
    ) -> None:
        """Gives a new model its gates, in place.

        Args:
            shape: of one example, [channels, height, width], if it is known.
            layers: as above.
            other: not read.

        Raises:
            ConfigError: if there is no such layer, or a pattern matches none.
        """
        there = blocks.keeping(model, shape, "regularizer=dynamic_gates") if shape is not None else None
        if layers is not None:
            names = _matching(model, layers, there)
        elif there is None:
            raise ConfigError("regularizer.layers=null: finding layers needs the data's shape; name them: [blocks.*]")
        else:
            names = blocks.outermost(model, there)
        blocks.need(names, model, "regularizer=dynamic_gates")
        for name in names:
            _give_gate(name, model.get_submodule(name))

    def parameters(self) -> dict[str, Any]:
        """The gates, with their own learning rate and no weight decay, which would drive them to the threshold."""
        return {"params": [layer.gate for layer in self.layers], "lr": self.lr, "weight_decay": 0.0}

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Adds strength · the mean of σ(gate)."""
        return loss + self.strength * torch.stack([layer.gate for layer in self.layers]).sigmoid().mean()

    def finish(self) -> None:
        """From now on the gates decide."""
        for layer in self.layers:
            layer.mode = "decide"


def _matching(model: nn.Module, patterns: Sequence[str], there: set[str] | None) -> list[str]:
    names = [name for name, _ in model.named_modules() if name and (there is None or name in there)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"regularizer.layers=[{','.join(patterns)}]: {pattern} matches no layer that keeps its input's shape; "
                f"there are {', '.join(names) or 'none'}"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _give_gate(name: str, layer: nn.Module) -> None:
    for attribute in ("gate", "mode", "executed"):
        if hasattr(layer, attribute):
            raise ConfigError(f"regularizer=dynamic_gates: {name} has an attribute `{attribute}` of its own")
    layer.__class__ = gated_class(
        layer.__class__
    )  # names of parameters stay as they are, as with torch's parametrizations
    layer.register_parameter("gate", nn.Parameter(torch.tensor(START)))
