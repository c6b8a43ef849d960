"""The specification of one experiment: the config, resolved once into frozen dataclasses."""

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
    """The point of dense training that the weights go back to.

    Attributes:
        count: how many epochs or iterations after the start; 0: the initial weights.
        unit: `ep` or `it`.
    """

    count: int
    unit: str = "it"

    @classmethod
    def parse(cls, value: object, epochs: int) -> Rewind | None:
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
        if unit == "ep" and count > epochs:
            why = f"dense training has train.epochs={epochs} epochs; must be at most {epochs}ep"
            raise ConfigError(f"rewind={value}: {why}")
        return cls(count, unit)

    def iterations(self, per_epoch: int) -> int:
        """Return the point in iterations."""
        return self.count * (per_epoch if self.unit == "ep" else 1)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}" if self.count else "0"


@dataclass(frozen=True)
class Train:
    """Dense training: epochs, examples per batch, iterations between looks at the validation loss (None: per epoch)."""

    epochs: int
    batch_size: int
    validate_every: int | None


@dataclass(frozen=True)
class Distill:
    """The dense network teaches: the teacher's share of the loss in (0, 1], and the temperature of both softmaxes."""

    alpha: float
    temperature: float


@dataclass(frozen=True)
class Finetune:
    """Training after each pruning: epochs, `last` or `rewind` for the learning rate (None: as the weights), teacher."""

    epochs: int
    lr: str | None
    distill: Distill | None


@dataclass(frozen=True)
class Selection:
    """Which tensors are prunable: name patterns, and whether the output layer is (None: the granularity decides)."""

    include: tuple[str, ...] | None
    exclude: tuple[str, ...]
    output_layer: bool | None


@dataclass(frozen=True)
class RuleSpec:
    """How the tensors that match are pruned.

    Attributes:
        match: a type such as `Conv2d`, or a name pattern.
        granularity, allocation: of these tensors.
        amount: fraction in [0, 1), or None for an allocation that sets its own sparsity.
        round_amount: whether the round's amount is taken instead.
        method: a pruning method of torch's kind, or a function that scores a weight; None: the experiment's criterion.
    """

    match: str
    granularity: Component
    allocation: Component
    amount: float | None
    round_amount: bool
    method: Component | None


@dataclass(frozen=True)
class Strategy:
    """The preset's name, and what is more than a preset.

    Attributes:
        name: such as `lottery_ticket`.
        method: a `prune.BasePruningMethod` or a function `score(weight)` that decides in the criterion's place.
        rules: (match → the axes and an amount), for tensors that are not all pruned in the same way; empty: none.
        layers: whether whole layers are removed, by validation loss.
        count: layers to remove in each round; None: one, or by amount or threshold.
        threshold: nats of validation loss that the removed layers of a round may cost together; None: no threshold.
    """

    name: str
    method: Component | None = None
    rules: tuple[RuleSpec, ...] = ()
    layers: bool = False
    count: int | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Finish:
    """What is made of the result: a compact network, files of these kinds, 8-bit weights, timings (None: as needed)."""

    compact: bool
    export: tuple[str, ...]
    quantize: str | None
    latency: bool | None


@dataclass(frozen=True)
class Spec:
    """One experiment.

    Attributes:
        seed: all randomness is a function of (seed, round, epoch).
        checkpoint: a file of trained weights that replaces dense training; None: the network is trained.
        iterations: score and prune so many times within a round.
        amount: fraction of the unpruned units that a round removes; None where the schedule or allocation decides.
        compression: whole-model target of the last round: all parameters ÷ nonzero ones; None: no such target.
        macs: target of the last round: multiply-adds of the compact network ÷ dense ones; None: no such target.
        tolerance: fraction of validation accuracy that may be lost, for schedule=until.
        control: what a ticket is compared with; None: nothing.
        plain: the whole resolved config as plain data, for summary.json.
    """

    seed: int
    data: Component
    model: Component
    checkpoint: str | None
    optimizer: Component
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
    tolerance: float | None
    rewind: Rewind | None
    control: str | None
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
