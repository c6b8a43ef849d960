"""What goes along with plain training: regularizers, a teacher, pruning in the middle, sparse training. One a file.

A routine is a `training.Routine` made as `Kind(phase, **options)`, anew for each phase of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from prunelab.config.schema import ConfigError
from prunelab.pruning.criteria.base import mask
from prunelab.pruning.masks import Parameters


@dataclass
class Phase:
    """A phase of training, dense or of one round, as a routine sees it.

    Attributes:
        model: the one that is trained.
        parameters: its prunable tensors, which carry masks.
        seed: of the experiment; with `round` and the iteration it seeds whatever a routine draws.
        round: 0 for dense training.
        iterations: optimizer steps in all.
        batch: `batch(iteration)` gives inputs and labels of one batch of the training split, drawn by (seed, round,
            iteration).
        optimizer: None until the routine's own parameters are known.
    """

    model: nn.Module
    parameters: Parameters
    seed: int
    round: int
    iterations: int
    batch: Callable[[int], tuple[Tensor, Tensor]]
    optimizer: Optimizer | None = None


def weight(module: nn.Module, name: str) -> Tensor:
    """A tensor as the network computes with it, differentiable with respect to what the optimizer moves."""
    original: Tensor = getattr(module, f"{name}_orig", getattr(module, name))
    return original * mask(module, name).to(original.dtype)


def check_number(key: str, value: object, allowed: str, fits: Callable[[float], bool]) -> None:
    """Raises ConfigError for what is no finite number, or does not fit; says what is allowed."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not fits(value):  # type: ignore[arg-type]
        raise ConfigError(f"{key}={value}: must be {allowed}")


def check_strength(phase: Phase, name: str, strength: float) -> None:
    """Raises ConfigError for a negative strength, or if there is no dense training to go along with."""
    check_number("regularizer.strength", strength, "a number ≥ 0", lambda x: x >= 0)
    if phase.iterations == 0:
        raise ConfigError(f"regularizer={name}: goes along with dense training, and there is none (train.epochs=0)")
