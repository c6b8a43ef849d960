"""Training and evaluation on data in memory: `fit` yields one row an epoch, `evaluate` measures a split.

What goes along with training (regularizers, a teacher, pruning in the middle of it, sparse training) is a `Routine`.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunelab.data.dataset import Split
from prunelab.runtime.seeding import permutation, seed_torch

Row = dict[str, Any]
EVALUATION_BATCH = 200  # on a processor, in a third less time than 1,000


class DivergedError(ArithmeticError):
    """The loss became NaN or infinite."""


@dataclass
class Position:
    """How far training has come: whole epochs, then batches of the next one.

    `losses` (float32 [batches]) and `rng` (torch's generator state) belong to an epoch broken off in the middle.
    `early_stop` is the iteration at which the validation loss was least so far, `least_loss` that loss.
    """

    epoch: int = 0
    batch: int = 0
    losses: Tensor | None = None
    rng: Tensor | None = None
    device_rng: Tensor | None = None
    early_stop: int | None = None
    least_loss: float = math.inf

    def end_epoch(self) -> None:
        """The next epoch begins with its first batch."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.losses = self.rng = self.device_rng = None

    def see(self, iteration: int, loss: float) -> None:
        """Notes a validation loss, if it is the least so far."""
        if loss < self.least_loss:
            self.early_stop, self.least_loss = iteration, loss


class Routine:
    """What goes along with plain training. This one does nothing; others override what they need.

    Iterations are counted from 1, over the whole phase of training.
    """

    def parameters(self) -> dict[str, Any] | None:
        """A group of the optimizer's for parameters of its own: `params`, and what else it is to have, such as `lr`.

        Parameters of the network that are in it are in no other group. Its `lr` follows the schedule like any other.
        """
        return None

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """What the optimizer is to descend for a batch: the loss so far, with what this routine makes of it.

        Args:
            loss: a scalar: the cross-entropy, or what an earlier routine made of it.
            inputs: of the batch.
            logits: what the network gave for them, [batch, classes], with their graph.
        """
        return loss

    def before_step(self, iteration: int) -> None:
        """Called with the gradients of a batch, before the optimizer moves the weights."""

    def after_step(self, iteration: int) -> None:
        """Called when the optimizer has moved the weights; the gradients are still there."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of it, by names of its own."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes back what `state` gave."""

    def finish(self) -> None:
        """Called once, when training has come to its end, before the network is measured."""


def batches(examples: int, batch_size: int) -> int:
    """Batches in an epoch; the last one may be smaller."""
    return math.ceil(examples / batch_size)


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Split,
    validation: Split,
    *,
    iterations: int,
    batch_size: int,
    seed: int,
    round: int,
    position: Position,
    on_batch: Callable[[], None] = lambda: None,
    factor: Callable[[int], float] | None = None,
    routines: Sequence[Routine] = (),
    validate_every: int | None = None,
) -> Iterator[Row]:
    """Trains with cross-entropy, and yields a row after each epoch.

    Order and dropout are functions of (seed, round, epoch) alone, so training that goes on from `position` gives the
    same bits as training that was never interrupted.

    Args:
        iterations: optimizer steps in all, counted from the beginning; the last epoch may be a part of one.
        round: 0 for dense training.
        position: where to start; kept up to date, so that the caller can save it at any batch.
        on_batch: called before each batch; an exception from it leaves model, optimizer and position consistent.
        factor: of the learning rate, by the iterations done; None: the rate stays.
        routines: what goes along.
        validate_every: iterations between looks at the validation loss, for `early_stop`; None: at each epoch's end.

    Yields:
        `epoch` (from 1), `train_loss` (mean cross-entropy over the epoch, whatever the objective), `val_loss`,
        `val_accuracy`, `early_stop` (the iteration of the least validation loss so far), `lr`, `seconds`.

    Raises:
        DivergedError: if a loss is NaN or infinite; names round, step and learning rate.
    """
    per_epoch = batches(len(train), batch_size)

    def step(inputs: Tensor, labels: Tensor) -> Tensor:
        done = position.epoch * per_epoch + position.batch
        if factor is not None:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor(done)
        loss = _step(model, optimizer, inputs, labels, done + 1, routines)
        if validate_every and (done + 1) % validate_every == 0:
            position.see(done + 1, evaluate(model, validation)[1])
            model.train()
        return loss

    while position.epoch * per_epoch + position.batch < iterations:
        start = time.perf_counter()
        length = min(per_epoch, iterations - position.epoch * per_epoch)
        order = permutation(len(train), seed, round, position.epoch, device=train.inputs.device)
        _enter_epoch(position, length, train.inputs.device, seed, round)
        model.train()
        _train_epoch(step, train, order.split(batch_size)[:length], position, on_batch)
        train_loss = _mean_loss(position, len(train), batch_size, round, optimizer)
        position.end_epoch()
        accuracy, loss = evaluate(model, validation)
        position.see((position.epoch - 1) * per_epoch + length, loss)
        yield {
            "epoch": position.epoch,
            "train_loss": train_loss,
            "val_loss": loss,
            "val_accuracy": accuracy,
            "early_stop": position.early_stop,
            "lr": float(optimizer.param_groups[0]["lr"]),
            "seconds": time.perf_counter() - start,
        }


def remember_generators(position: Position, device: torch.device) -> None:
    """Notes torch's generators, for an epoch that is broken off in the middle."""
    position.rng = torch.get_rng_state()
    if device.type != "cpu":
        position.device_rng = torch.get_device_module(device).get_rng_state()


@torch.no_grad()
def evaluate(model: nn.Module, split: Split) -> tuple[float, float]:
    """Accuracy in [0, 1] and mean cross-entropy in nats."""
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    loss = torch.zeros((), dtype=torch.float32, device=split.labels.device)
    for first in range(0, len(split), EVALUATION_BATCH):
        inputs, labels = split.batch(slice(first, first + EVALUATION_BATCH))
        logits = model(inputs)  # [batch, classes]
        correct += (logits.argmax(1) == labels).sum()
        loss += F.cross_entropy(logits, labels, reduction="sum")
    return int(correct) / len(split), float(loss) / len(split)


def without_compiler(optimizer: Callable[..., torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """The same optimizer class, for eager use only: it does not import `torch._dynamo`, which takes 1 to 4 s.

    torch wraps some of an optimizer's methods so that `torch.compile` steps around them, and imports the compiler in
    the wrappers. Nothing is compiled here, so the wrapped functions are called directly. A class that is not torch's
    own, or is built otherwise than expected, is returned as it is.
    """
    if not (
        inspect.isclass(optimizer) and optimizer.__module__.startswith("torch.optim") and "step" in vars(optimizer)
    ):
        return optimizer
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        function = inspect.unwrap(getattr(optimizer, name))
        if not hasattr(function, "__dynamo_disable"):
            function.__dynamo_disable = function  # where torch keeps what the wrapper is to call
    step = torch.no_grad()(inspect.unwrap(vars(optimizer)["step"]))
    return type(optimizer.__name__, (optimizer,), {"step": step})


def _enter_epoch(position: Position, length: int, device: torch.device, seed: int, round: int) -> None:
    if position.losses is None:
        position.batch = 0
        position.losses = torch.zeros(length, device=device)
        seed_torch(seed, round, position.epoch, "torch")
        return
    position.losses = position.losses.to(device)
    if position.rng is not None:
        torch.set_rng_state(position.rng)
    if position.device_rng is not None:
        torch.get_device_module(device).set_rng_state(position.device_rng)


def _train_epoch(
    step: Callable[[Tensor, Tensor], Tensor],
    train: Split,
    order: tuple[Tensor, ...],
    position: Position,
    on_batch: Callable[[], None],
) -> None:
    """Nothing here waits for the device: the losses stay on it until the epoch's end."""
    losses = position.losses
    assert losses is not None
    for index in order[position.batch :]:
        on_batch()
        losses[position.batch] = step(*train.batch(index))
        position.batch += 1


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    iteration: int,
    routines: Sequence[Routine],
) -> Tensor:
    """One step of the optimizer; the cross-entropy alone, whatever the routines make of it."""
    optimizer.zero_grad()
    logits = model(inputs)  # [batch, classes]
    loss = objective = F.cross_entropy(logits, labels)
    for routine in routines:
        objective = routine.objective(objective, inputs, logits)
    objective.backward()
    for routine in routines:
        routine.before_step(iteration)
    optimizer.step()
    for routine in routines:
        routine.after_step(iteration)
    return loss.detach()


def _mean_loss(
    position: Position, examples: int, batch_size: int, round: int, optimizer: torch.optim.Optimizer
) -> float:
    assert position.losses is not None
    losses = position.losses.double().cpu()
    if not bool(torch.isfinite(losses).all()):
        step = int((~torch.isfinite(losses)).nonzero()[0])
        whole = position.epoch * batches(examples, batch_size) + step + 1
        raise DivergedError(
            f"the loss became {losses[step]:g} in round {round}, step {whole} (epoch {position.epoch + 1}), "
            f"at learning rate {optimizer.param_groups[0]['lr']:g}; a smaller optimizer.lr may help"
        )
    sizes = torch.full_like(losses, batch_size)
    if len(losses) == batches(examples, batch_size):
        sizes[-1] = examples - batch_size * (len(losses) - 1)
    return float((losses * sizes).sum() / sizes.sum())
