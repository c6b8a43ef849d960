"""One phase of training, dense or of one round, from the beginning or from a checkpoint, to the stage's result."""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from torch.optim import Optimizer

from prunelab.config.component import Component
from prunelab.costs import counts
from prunelab.experiment.bench import Bench, snapshot
from prunelab.experiment.prune import Pruning, prune
from prunelab.pruning.schedules import Round
from prunelab.records import EpochRecord, RoundRecord, from_plain, plain
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.runtime.seeding import seed_all
from prunelab.stages.checkpoint import Work, fitting
from prunelab.stages.stage import State
from prunelab.training.callbacks.base import Callback, Phase
from prunelab.training.callbacks.distillation import Distillation
from prunelab.training.callbacks.gradual import Gradual
from prunelab.training.callbacks.moving_average import MovingAverage
from prunelab.training.loop import fit
from prunelab.training.lr_schedules.constant import constant
from prunelab.training.spec import Position, TrainSpec

OnEpoch = Callable[[EpochRecord], None]


def train(
    bench: Bench,
    work: Work,
    round: int,
    start: Callable[[], Pruning],
    on_epoch: OnEpoch,
    plan: Round | None = None,
    until: int | None = None,
) -> State:
    """Train from the beginning, or from the checkpoint if there is one, with bit-identical results.

    Args:
        start: sets the model's state at the beginning, and returns what was pruned. Not called on resuming.
        on_epoch: called with the record of every epoch, also of those before the checkpoint.
        plan: the round's amounts, for a round; None for dense training and controls.
        until: number of optimizer steps; None: as many as the config asks for.
    """
    checkpoint = work.load()
    pruned, rows, position = _begin(bench, checkpoint, start)
    phase = _phase(bench, round, until)
    callbacks = _callbacks(bench, phase, plan, pruned)
    optimizer = bench.new_optimizer(callbacks, round=round)
    _continue(checkpoint, optimizer, callbacks)
    for row in rows:
        on_epoch(replace(row, reused=True))
    save = functools.partial(_save, bench, work, optimizer, callbacks, pruned, rows, position)
    try:
        for row in _fit(bench, phase, optimizer, callbacks, position):
            rows.append(row)
            save()
            on_epoch(row)
    except InterruptedRun:
        position.remember_generators(bench.device)
        save()
        raise
    for callback in callbacks:
        callback.finish()
    bench.masks.apply()
    record = _measure(bench, round, rows, pruned)
    return State(snapshot(bench.model), bench.masks.state(), record, rows, bench.pruner.recorder.state())


def _continue(checkpoint: dict[str, Any] | None, optimizer: Optimizer, callbacks: list[Callback]) -> None:
    """Restore the states of optimizer and callbacks from a checkpoint."""
    if checkpoint is None:
        return
    with fitting("the checkpoint in stages"):
        optimizer.load_state_dict(checkpoint["optimizer"])
        for callback, state in zip(callbacks, checkpoint["callbacks"], strict=True):
            callback.load(state)


def _fit(
    bench: Bench, phase: Phase, optimizer: Optimizer, callbacks: list[Callback], position: Position
) -> Iterator[EpochRecord]:
    """Train from `position` to the end of the phase; yield one record per epoch."""
    train, seed = bench.spec.train, bench.spec.seed
    spec = TrainSpec(phase.iterations, train.batch_size, seed, phase.round, train.validate_every, train.precision)
    return fit(
        bench.model,
        optimizer,
        bench.data.train,
        bench.data.validation,
        spec,
        callbacks,
        on_batch=bench.hooks.on_batch,
        steps=bench.steps,
        position=position,
        lr_factor=_lr_factor(bench, phase.round, phase.iterations),
        test=bench.data.test if train.test else None,
    )


def _save(
    bench: Bench,
    work: Work,
    optimizer: Optimizer,
    callbacks: list[Callback],
    pruned: Pruning,
    rows: list[EpochRecord],
    position: Position,
) -> None:
    network = {"weights": snapshot(bench.model), "masks": bench.masks.state(), "optimizer": optimizer.state_dict()}
    states = {"callbacks": [callback.state() for callback in callbacks], "recorded": bench.pruner.recorder.state()}
    progress = {"pruned": asdict(pruned), "rows": [plain(row) for row in rows], "position": asdict(position)}
    work.save({**network, **states, **progress})


def try_sparse_training(bench: Bench) -> None:
    """Build the callback of `sparse_training` once; ConfigError if it does not fit model, optimizer or fine-tuning."""
    part = bench.spec.sparse_training
    if part is not None:
        callback = part(_phase(bench, 1))
        callback.check(bench.new_optimizer([callback]))


def _begin(
    bench: Bench, checkpoint: dict[str, Any] | None, start: Callable[[], Pruning]
) -> tuple[Pruning, list[EpochRecord], Position]:
    """Set the model's state; return what was pruned, the rows so far, and the position."""
    if checkpoint is None:
        return start(), [], Position()
    with fitting("the checkpoint in stages"):
        bench.put(State(checkpoint["weights"], checkpoint["masks"], recorded=checkpoint["recorded"]))
        rows = [from_plain(EpochRecord, row) for row in checkpoint["rows"]]
        return Pruning(**checkpoint["pruned"]), rows, Position(**checkpoint["position"])


def _phase(bench: Bench, round: int, until: int | None = None) -> Phase:
    batch = functools.partial(bench.training_batch, round)
    whole = bench.finetune_iterations if round else bench.dense_iterations
    iterations = whole if until is None else until
    return Phase(bench.model, bench.masks, bench.spec.seed, round, iterations, batch, bench.tensors)


def _callbacks(bench: Bench, phase: Phase, plan: Round | None, pruned: Pruning) -> list[Callback]:
    def prune_more(step: int) -> None:
        assert plan is not None
        more = prune(bench, phase.round, plan.amounts[step - 1], step)
        pruned.prune_ms += more.prune_ms
        pruned.warnings += more.warnings

    spec, found = bench.spec, list[Callback]()
    if spec.train.ema is not None:
        found.append(MovingAverage(phase.model, phase.masks, spec.train.ema))  # first: others compute from the average
    part: Component | None = spec.regularizer if phase.round == 0 else spec.sparse_training
    if part is not None and not (plan is None and phase.round):
        found.append(part(phase))
    if phase.round and spec.finetune.distill is not None:
        found.append(Distillation(bench.dense_network(), **asdict(spec.finetune.distill)))
    if plan is not None and plan.every:
        found.append(Gradual(prune_more, plan.every, len(plan.amounts)))
    return found


def _lr_factor(bench: Bench, round: int, iterations: int) -> Callable[[int], float] | None:
    """Return the factor of the learning rate, a function of the iterations done in this phase; None: always 1.

    `finetune.lr_schedule`, if set, runs once over the round. Else the rate stays as dense training ended. If weights
    or rate are rewound, the schedule runs again from the point that they are rewound to (Renda et al. 2020, arXiv
    2003.02389, section 3).
    """
    own = bench.spec.finetune.lr_schedule if round else None
    if (own or bench.spec.lr_schedule).target is constant:
        return None
    if own is not None:
        return _schedule(bench, iterations, own)
    dense = bench.dense_iterations
    if round == 0:
        return _schedule(bench, dense)
    point = bench.rewind_iterations()
    mode = bench.spec.finetune.lr or ("last" if point is None else "rewind")
    if mode == "last" and dense:
        last = _schedule(bench, dense)(dense - 1)
        return lambda done: last
    first = max(0, dense - iterations) if point is None else point
    schedule = _schedule(bench, max(dense, first + iterations))
    return lambda done: schedule(first + done)


def _schedule(bench: Bench, whole: int, part: Component | None = None) -> Callable[[int], float]:
    """Return the factor of the learning rate as a function of the iterations done of `whole` ones."""
    part = part or bench.spec.lr_schedule
    takes = inspect.signature(part.target).parameters
    lengths = {key: n for key, n in {"iterations": whole, "per_epoch": bench.batches}.items() if key in takes}
    factor = functools.partial(part.target, **part.options, **lengths)
    return lambda done: float(factor(done / whole))


def _measure(bench: Bench, round: int, rows: list[EpochRecord], pruned: Pruning) -> RoundRecord:
    """Return the round's record, measured after the last epoch under the final masks."""
    seed_all(bench.spec.seed, round, "measure")  # a model may draw random numbers in eval mode
    test = bench.evaluate(bench.data.test)
    last = rows[-1] if rows else None
    size = counts.count(bench.model, counts.layers(bench.model, bench.example), bench.masks)
    accuracy = last.val_accuracy if last else bench.evaluate(bench.data.validation).accuracy
    return RoundRecord(
        round=round,
        **asdict(size),
        train_loss=last.train_loss if last else None,
        val_accuracy=accuracy,
        test_accuracy=test.accuracy,
        test_loss=test.loss,
        early_stop=last.early_stop if last else None,
        early_stop_accuracy=last.early_stop_accuracy if last else None,
        best_test_accuracy=max((row.test_accuracy for row in rows if row.test_accuracy is not None), default=None),
        epochs=len(rows),
        seconds=sum(row.seconds for row in rows) + pruned.prune_ms / 1000,
        **vars(pruned),
    )
