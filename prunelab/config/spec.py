"""The specification of one experiment: the config, resolved once into frozen dataclasses.

The fields are the keys of `config.schema`, which describes them; only what differs from those is said here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunelab.config.component import Component
from prunelab.config.schema import allowed
from prunelab.errors import ConfigError


@dataclass(frozen=True)
class Rewind:
    """The point that the weights go back to: `count` epochs (`ep`) or iterations (`it`) after the start."""

    count: int
    unit: str = "it"

    @classmethod
    def parse(cls, value: object, epochs: int | str) -> Rewind | None:
        """Return the point that the key `rewind` names: null (no rewinding), 0, `2ep` or `500it`.

        Raises:
            ConfigError: if it is none of these, or lies beyond the `epochs` of dense training.
        """
        if value is None:
            return None
        match = re.fullmatch(r"(\d+)(ep|it)|0+", str(value))
        if not match:
            raise ConfigError(f"rewind={value}: must be {allowed('rewind')}")
        count, unit = int(match[1] or 0), match[2] or "it"
        if unit == "ep" and isinstance(epochs, int) and count > epochs:
            why = f"dense training has train.epochs={epochs} epochs; must be at most {epochs}ep"
            raise ConfigError(f"rewind={value}: {why}")
        return cls(count, unit)

    def iterations(self, per_epoch: int) -> int:
        """Return the point in iterations."""
        return self.count * (per_epoch if self.unit == "ep" else 1)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}" if self.count else "0"


def iterations(length: int | str, per_epoch: int) -> int:
    """Return a length in iterations; it is given in epochs, or in iterations such as `500it`."""
    return int(length.removesuffix("it")) if isinstance(length, str) else length * per_epoch


@dataclass(frozen=True)
class Train:
    """Dense training."""

    epochs: int | str
    batch_size: int
    validate_every: int | None
    test: bool | None  # null is false too
    ema: float | None
    precision: str | None  # null is fp32 too
    graph: bool | None  # null is false too


@dataclass(frozen=True)
class Distill:
    """Distillation from the dense network; alpha > 0."""

    alpha: float
    temperature: float


@dataclass(frozen=True)
class Finetune:
    """Training after each pruning.

    Attributes:
        optimizer, lr_schedule: of fine-tuning alone; both or none of them.
    """

    epochs: int | str
    lr: str | None
    distill: Distill | None
    optimizer: Component | None = None
    lr_schedule: Component | None = None


@dataclass(frozen=True)
class Selection:
    """Which tensors are prunable: the keys of `prune`."""

    include: tuple[str, ...] | None
    exclude: tuple[str, ...]
    output_layer: bool | None
    adopt_zeros: bool


@dataclass(frozen=True)
class RuleSpec:
    """How the tensors that match are pruned: by `amount`, or by `factor` · the round's amount with `round_amount`."""

    match: str
    granularity: Component
    allocation: Component
    amount: float | None
    round_amount: bool
    method: Component | None
    factor: float | None = None


@dataclass(frozen=True)
class Strategy:
    """The preset's name, and what is more than a preset."""

    name: str
    method: Component | None = None
    rules: tuple[RuleSpec, ...] = ()
    layers: bool = False
    count: int | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Finish:
    """What is made of the result."""

    compact: bool
    round_to: int | None
    export: tuple[str, ...]
    quantize: str | None
    latency: bool | None


@dataclass(frozen=True)
class Spec:
    """One experiment.

    Attributes:
        validation, label_noise, scale, shift, flip: of `data`.
        checkpoint, init: of `model`.
        decay: `optimizer.decay`.
        selection: `prune`.
        iterations: `criterion.iterations`.
        compression, macs: of `schedule`.
        baseline: whether to train the dense network for as many epochs as the pruned one.
        plain: the whole resolved config as plain data, for summary.json.
    """

    seed: int
    data: Component
    validation: float | None
    label_noise: float | None
    scale: str | None
    shift: int | None
    flip: bool | None
    model: Component
    checkpoint: str | None
    init: str | None
    optimizer: Component
    decay: str | None
    lr_schedule: Component
    train: Train
    finetune: Finetune
    selection: Selection
    criterion: Component
    iterations: int
    granularity: Component
    allocation: Component
    strategy: Strategy
    schedule: Component
    compression: float | None
    macs: float | None
    amount: float | None
    reconstruct: str | None
    tolerance: float | None
    rewind: Rewind | None
    control: str | None
    baseline: bool
    regularizer: Component | None
    sparse_training: Component | None
    finish: Finish
    device: str
    threads: int | None
    outputs: str
    reuse: bool
    trusted: tuple[str, ...]
    plain: Mapping[str, Any]

    @property
    def layers(self) -> bool:
        """Whether whole layers are removed."""
        return self.strategy.layers
