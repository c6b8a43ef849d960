"""The training loop on data in memory: `fit` trains and yields a record per epoch, `evaluate` measures a split."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from prunelab.data.dataset import Split
from prunelab.errors import ConfigError
from prunelab.records import EpochRecord
from prunelab.runtime.seeding import permutation
from prunelab.training.callbacks.base import Callback
from prunelab.training.forward import forward, substituted, substitutes
from prunelab.training.spec import Position, TrainSpec

EVALUATION_BATCH = 200  # on a CPU a third faster than 1,000


class DivergedError(ArithmeticError):
    """The training loss or a weight became NaN or infinite."""


class Evaluation(NamedTuple):
    """Accuracy in [0, 1] and mean cross-entropy in nats."""

    accuracy: float
    loss: float


def batches(examples: int, batch_size: int) -> int:
    """Return the number of batches in an epoch; the last one may be smaller."""
    return math.ceil(examples / batch_size)


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    train: Split,
    validation: Split,
    spec: TrainSpec,
    callbacks: Sequence[Callback] = (),
    *,
    position: Position | None = None,
    lr_factor: Callable[[int], float] | None = None,
    on_batch: Callable[[], None] = lambda: None,
    steps: Steps | None = None,
    test: Split | None = None,
) -> Iterator[EpochRecord]:
    """Train with cross-entropy, and yield a record after each epoch.

    The order of examples and the generators' seeds are functions of (seed, round, epoch), so training that continues
    from `position` gives the same bits as training without an interruption.

    Args:
        optimizer: its groups have `initial_lr` where there is an `lr_factor`. See `optimizers.build_optimizer`.
        position: where to start; updated at every batch, so that the caller can store it; None: the beginning.
        lr_factor: function from the number of steps done to a factor of the initial learning rate; None: constant.
        on_batch: called before each batch; if it raises, model, optimizer and position are consistent.
        steps: takes the steps of an epoch; None: `one_by_one`.
        test: measured after each epoch, too, and chooses nothing; None: the records have no test accuracies.

    Yields:
        The record of each epoch. `train_loss` is the cross-entropy alone, without what callbacks add.

    Raises:
        DivergedError: if a loss or a weight is NaN or infinite; names round, step and learning rate.
    """
    how = (position or Position(), lr_factor, on_batch, steps or one_by_one, test)
    phase = Training(model, optimizer, train, validation, spec, callbacks, *how)
    for callback in callbacks:
        callback.begin(optimizer)
    while phase.done < spec.iterations:
        yield phase.epoch()


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    inputs: Tensor,
    labels: Tensor,
    iteration: int,
    callbacks: Sequence[Callback],
    precision: str | None = None,
) -> Tensor:
    """Take one optimizer step on one batch; return the cross-entropy alone, detached."""
    optimizer.zero_grad()
    with substituted(model, substitutes(model, callbacks)):
        given = inputs.clone() if callbacks else inputs  # the network may write on them, and a teacher reads them
        logits = forward(model, given, precision)  # [batch, classes]
    loss = objective = F.cross_entropy(logits, labels)
    for callback in callbacks:
        objective = callback.objective(objective, inputs, logits)
        if not isinstance(objective, Tensor) or objective.numel() != 1:
            raise ConfigError(f"callback={type(callback).__name__}: its objective must return a scalar tensor")
    objective.backward()
    for callback in callbacks:
        callback.before_step(iteration)
    optimizer.step()
    for callback in callbacks:
        callback.after_step(iteration)
    return loss.detach()


@torch.no_grad()
def evaluate(
    model: nn.Module, split: Split, callbacks: Sequence[Callback] = (), precision: str | None = None
) -> Evaluation:
    """Measure a model on a split, in eval mode.

    Args:
        callbacks: callbacks of an unfinished phase, whose substitutes replace parameters.
    """
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    loss = torch.zeros((), dtype=torch.float32, device=split.labels.device)
    with ExitStack() as stack:
        for callback in callbacks:
            stack.enter_context(callback.measured())
        stack.enter_context(substituted(model, substitutes(model, callbacks)))
        for first in range(0, len(split), EVALUATION_BATCH):
            inputs, labels = split.batch(slice(first, first + EVALUATION_BATCH))
            logits = forward(model, inputs, precision)  # [batch, classes]
            correct += (logits.argmax(1) == labels).sum()
            loss += F.cross_entropy(logits, labels, reduction="sum")
    return Evaluation(int(correct) / len(split), float(loss) / len(split))


@dataclass(frozen=True)
class Training:
    """The arguments of `fit`, and what it does in an epoch and in a step."""

    model: nn.Module
    optimizer: Optimizer
    train: Split
    validation: Split
    spec: TrainSpec
    callbacks: Sequence[Callback]
    position: Position
    lr_factor: Callable[[int], float] | None
    on_batch: Callable[[], None]
    steps: Steps
    test: Split | None = None

    @property
    def per_epoch(self) -> int:
        """Number of steps in a whole epoch."""
        return batches(len(self.train), self.spec.batch_size)

    @property
    def done(self) -> int:
        """Number of steps done."""
        return self.position.epoch * self.per_epoch + self.position.batch

    def epoch(self) -> EpochRecord:
        """Train to the end of the epoch, and validate."""
        start = time.perf_counter()
        train_loss = self.train_epoch()
        measured, tested = self.measure(min(self.done, self.spec.iterations), test=True)
        return EpochRecord(
            round=self.spec.round,
            epoch=self.position.epoch,
            train_loss=train_loss,
            val_loss=measured.loss,
            val_accuracy=measured.accuracy,
            early_stop=self.position.early_stop,
            lr=float(self.optimizer.param_groups[0]["lr"]),
            seconds=time.perf_counter() - start,
            test_accuracy=tested,
            early_stop_accuracy=self.position.early_stop_accuracy,
        )

    def measure(self, iteration: int, *, test: bool = False) -> tuple[Evaluation, float | None]:
        """Measure the validation split; the test split, if any, on request or where the loss is the least so far."""
        measured = evaluate(self.model, self.validation, self.callbacks, self.spec.precision)
        smallest, tested = self.position.see(iteration, measured.loss), None
        if self.test is not None and (smallest or test):
            tested = evaluate(self.model, self.test, self.callbacks, self.spec.precision).accuracy
        if smallest:
            self.position.early_stop_accuracy = tested
        return measured, tested

    def train_epoch(self) -> float:
        """Train to the end of the epoch and return its mean loss. The losses stay on the device until then."""
        spec, position, device = self.spec, self.position, self.train.inputs.device
        length = min(self.per_epoch, spec.iterations - position.epoch * self.per_epoch)
        order = permutation(len(self.train), spec.seed, spec.round, position.epoch, device=device)
        losses = position.begin_epoch(spec, length, device)
        self.model.train()
        self.steps(self, order.split(spec.batch_size)[position.batch : length])
        found = losses.double().cpu()
        self.check_finite(found)
        sizes = torch.full_like(found, spec.batch_size)
        if length == self.per_epoch:
            sizes[-1] = len(self.train) - spec.batch_size * (length - 1)
        position.end_epoch()
        return float((found * sizes).sum() / sizes.sum())

    def set_lr(self, done: int) -> None:
        """Set the learning rates of the step after `done` ones."""
        if self.lr_factor is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * self.lr_factor(done)

    def step(self, index: Tensor) -> Tensor:
        """Take one step on the examples of `index`; return the cross-entropy."""
        number = self.done + 1
        self.set_lr(number - 1)
        loss = train_step(
            self.model, self.optimizer, *self.train.batch(index), number, self.callbacks, self.spec.precision
        )
        if self.spec.validate_every and number % self.spec.validate_every == 0:
            self.measure(number)
            self.model.train()
        return loss

    def check_finite(self, losses: Tensor) -> None:
        """Raise DivergedError if one of an epoch's losses, or a weight after the last step, is NaN or infinite."""
        wrong, epoch = (~torch.isfinite(losses)).nonzero(), self.position.epoch
        trained = (x for group in self.optimizer.param_groups for x in group["params"] if x.requires_grad)
        if len(wrong) or not all(bool(weight.isfinite().all()) for weight in trained):
            step = int(wrong[0]) if len(wrong) else len(losses) - 1
            what = f"the loss became {losses[step]:g}" if len(wrong) else "a weight became NaN or infinite"
            whole, lr = epoch * self.per_epoch + step + 1, self.optimizer.param_groups[0]["lr"]
            raise DivergedError(
                f"{what} in round {self.spec.round}, step {whole} (epoch {epoch + 1}), "
                f"at learning rate {lr:g}; a smaller optimizer.lr may help"
            )


Steps = Callable[[Training, Sequence[Tensor]], None]


def one_by_one(training: Training, order: Sequence[Tensor]) -> None:
    """Take one optimizer step on the examples of each index in `order`; update the position and store each loss."""
    position = training.position
    assert position.losses is not None
    for index in order:
        training.on_batch()
        position.losses[position.batch] = training.step(index)
        position.batch += 1
