"""The settings of a phase of training (`TrainSpec`), and its progress (`Position`)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunelab.runtime.seeding import HostGenerators, seed_all


@dataclass(frozen=True)
class TrainSpec:
    """The settings of one phase of training. With model, optimizer, data and callbacks they determine its result."""

    iterations: int  # optimizer steps in total, ≥ 0; the last epoch may be incomplete
    batch_size: int  # examples per step, ≥ 1; the last batch of an epoch may be smaller
    seed: int  # of the experiment
    round: int = 0  # 0 is dense training
    validate_every: int | None = None  # iterations between validations for `early_stop`; None: an epoch
    precision: str | None = None  # arithmetic of the network, see `forward.forward`


@dataclass
class Position:
    """The progress of training. `fit` updates it at every batch; a checkpoint stores it."""

    epoch: int = 0  # epochs completed
    batch: int = 0  # batches completed in the next epoch
    losses: Tensor | None = None  # of the incomplete epoch's batches, float32 [batches]; None between epochs
    # In the middle of an epoch: the states of torch's generators, and the fields of `HostGenerators`.
    rng: Tensor | None = None
    device_rng: Tensor | None = None
    host_rng: dict[str, tuple[Any, ...]] | None = None
    early_stop: int | None = None  # iteration with the smallest validation loss so far
    early_stop_accuracy: float | None = None  # on the test split at that iteration, if `fit` has one
    least_loss: float = math.inf  # the smallest validation loss so far, in nats

    def begin_epoch(self, spec: TrainSpec, length: int, device: torch.device) -> Tensor:
        """Seed all generators for a new epoch, or restore them for one that was interrupted; return its losses."""
        if self.losses is None:
            self.batch = 0
            self.losses = torch.zeros(length, device=device)
            seed_all(spec.seed, spec.round, self.epoch, "torch")
            return self.losses
        self.losses = self.losses.to(device)
        if self.rng is not None:
            torch.set_rng_state(self.rng)
        if self.device_rng is not None:
            torch.get_device_module(device).set_rng_state(self.device_rng)
        if self.host_rng is not None:
            HostGenerators(**self.host_rng).restore()
        return self.losses

    def end_epoch(self) -> None:
        """Move on to the first batch of the next epoch."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.losses = self.rng = self.device_rng = self.host_rng = None

    def see(self, iteration: int, loss: float) -> bool:
        """Remember a validation loss if it is the smallest so far; return whether it is."""
        smallest = loss < self.least_loss
        if smallest:
            self.early_stop, self.least_loss = iteration, loss
        return smallest

    def remember_generators(self, device: torch.device) -> None:
        """Store the states of all generators, after an interruption in the middle of an epoch."""
        self.rng, self.host_rng = torch.get_rng_state(), vars(HostGenerators.now())
        if device.type != "cpu":
            self.device_rng = torch.get_device_module(device).get_rng_state()
