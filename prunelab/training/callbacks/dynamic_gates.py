"""Dynamic inference: a learned gate per layer decides at run time whether the layer is executed."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from prunelab.errors import ConfigError, check_number
from prunelab.pruning import blocks
from prunelab.pruning.gated import gated, gated_class
from prunelab.training.callbacks.base import Callback, ParameterGroup, Phase

START = 2.0  # initial value of a gate; σ(2) = 0.88, so it is open


class DynamicGates(Callback):
    """Learn which layers are worth executing, and skip the others at run time.

    The output is y = g·f(x) + (1 − g)·x with one g ∈ {0, 1} per layer, trained straight-through; strength · the mean of
    σ(gate) is added to the loss. Only layers that keep their input's shape can be skipped. The gates are parameters of
    the network (`blocks.3.gate`): they are stored with it, and rewinding takes them back with the weights. After dense
    training they stay fixed: fine-tuning neither moves a gate nor executes a layer whose gate is closed.

    Use it on deep networks with layers that keep their input's shape, to save time at inference without removing a
    layer.

    Args:
        strength: cost of a network whose gates are all open, in nats of cross-entropy, ≥ 0.
        lr: learning rate of the gates, > 0. They start at 2 and close at 0, so Adam needs at least 2/lr steps.
        layers: patterns of module names (`blocks.*`); None: the outermost modules that are no plain containers, keep
            their input's shape and have weights of Conv, Linear, recurrent or attention layers.

    Raises:
        ConfigError: if a value is outside its range.

    Source: Wang et al. 2018, "SkipNet", arXiv 1711.09485, and Veit & Belongie 2018, "Convolutional networks with
    adaptive inference graphs", arXiv 1711.11503, whose gates depend on x; here a gate is one number for all inputs.
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
        """Give a new model its gates, in place; ConfigError if there is no such layer, or a pattern matches none.

        Args:
            shape: of one example, [channels, height, width], or None if it is unknown.
            layers: as for the class.
            other: options that only the class takes.
        """
        there = blocks.keeping(model, shape, "regularizer=dynamic_gates") if shape is not None else None
        if layers is not None:
            names = _matching(model, layers, there)
        elif there is None:
            raise ConfigError(
                "regularizer.layers=null: the data's shape is unknown; must be patterns such as [blocks.*]"
            )
        else:
            names = blocks.outermost(model, there)
        blocks.need(names, model, "regularizer=dynamic_gates")
        for name in names:
            _give_gate(name, model.get_submodule(name))

    def parameters(self) -> ParameterGroup:
        """Return the gates as a parameter group without weight decay, which would pull them towards the threshold."""
        return ParameterGroup([layer.gate for layer in self.layers], self.lr)

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Add strength · the mean of σ(gate)."""
        return loss + self.strength * torch.stack([layer.gate for layer in self.layers]).sigmoid().mean()

    def finish(self) -> None:
        """Let the gates decide from now on."""
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
            raise ConfigError(f"regularizer=dynamic_gates: {name} already has an attribute `{attribute}`")
    layer.__class__ = gated_class(layer.__class__)  # the names of the parameters stay, as in torch's parametrizations
    layer.register_parameter("gate", nn.Parameter(torch.tensor(START)))
