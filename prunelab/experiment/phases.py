"""One phase of training, dense or of one round: from its start, or its checkpoint, to what it gives."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch

from prunelab.config import build as building
from prunelab.config import schema as configs
from prunelab.costs import counts as metrics
from prunelab.experiment import pruning
from prunelab.experiment.lab import Lab
from prunelab.pruning import masks
from prunelab.pruning.criteria.base import Batch
from prunelab.pruning.schedules import Round
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.runtime.seeding import permutation
from prunelab.stages.store import State, Work
from prunelab.training import loop as training
from prunelab.training.callbacks.base import Phase
from prunelab.training.callbacks.distillation import Distillation
from prunelab.training.callbacks.gradual import Gradual
from prunelab.training.callbacks.movement import Movement
from prunelab.training.loop import Routine

Row = dict[str, Any]


def train(
    lab: Lab,
    work: Work,
    round: int,
    iterations: int,
    start: Callable[[], Row],
    on_epoch: Callable[[Row], None],
    plan: Round | None = None,
) -> State:
    """Trains from `start`, or from the checkpoint if there is one, which is as if there had been no break.

    Args:
        iterations: optimizer steps in all.
        start: puts the model where training begins; returns what the round says of that. Not called on resuming.
        on_epoch: called with every epoch's row, those before the break too.
        plan: of the round, if it is one that prunes while it trains.
    """
    checkpoint = work.load()
    facts, rows, position = _begin(lab, checkpoint, start)
    phase = _phase(lab, round, iterations)
    routines = _routines(lab, phase, plan, facts)
    optimizer = phase.optimizer = lab.new_optimizer(routines)
    if checkpoint is not None:
        optimizer.load_state_dict(checkpoint["optimizer"])
        for routine, state in zip(routines, checkpoint["routines"], strict=True):
            routine.load(state)

    def save() -> None:
        weights, kept = masks.snapshot(lab.model)
        content: Row = {"weights": weights, "masks": kept, "optimizer": optimizer.state_dict()}
        content |= {"routines": [routine.state() for routine in routines]}
        work.save(content | {"facts": facts, "rows": rows, "position": asdict(position)})

    for row in rows:
        on_epoch({**row, "reused": True})
    try:
        for row in _fit(lab, optimizer, round, iterations, position, routines):
            rows.append({"round": round, **row})
            save()
            on_epoch({**rows[-1], "reused": False})
    except InterruptedRun:
        training.remember_generators(position, lab.device)
        save()
        raise
    for routine in routines:
        routine.finish()
    moved = next((routine.state() for routine in routines if isinstance(routine, Movement) and iterations), {})
    return State(*masks.snapshot(lab.model), _measure(lab, round, rows, facts), rows, moved)


def _begin(lab: Lab, checkpoint: Row | None, start: Callable[[], Row]) -> tuple[Row, list[Row], training.Position]:
    """Puts the model where training begins or goes on: what the round says of that, its rows so far, the position."""
    if checkpoint is None:
        return start(), [], training.Position()
    masks.restore(lab.model, checkpoint["weights"], checkpoint["masks"])
    return checkpoint["facts"], checkpoint["rows"], training.Position(**checkpoint["position"])


def try_sparse_training(lab: Lab) -> None:
    """Makes the routine of `sparse_training` once.

    Raises:
        ConfigError: if it does not fit the model, or the length of fine-tuning.
    """
    if lab.config.sparse_training:
        _routine(lab, "sparse_training", _phase(lab, 1, lab.config.finetune.epochs * lab.batches))


def _phase(lab: Lab, round: int, iterations: int) -> Phase:
    return Phase(lab.model, lab.parameters, lab.seed, round, iterations, functools.partial(_batch, lab, round))


def _routine(lab: Lab, part: str, phase: Phase) -> Routine:
    """The routine that a part of the config names, for a phase of training."""
    routine: Routine = building.bind(lab.config, part, phase)(phase)
    return routine


def _batch(lab: Lab, round: int, iteration: int) -> Batch:
    """One batch of the training split, drawn by (seed, round, iteration)."""
    order = permutation(len(lab.data.train), lab.seed, round, iteration, "routine", device=lab.device)
    return lab.data.train.batch(order[: lab.config.train.batch_size])


def _routines(lab: Lab, phase: Phase, plan: Round | None, facts: Row) -> list[Routine]:
    """What goes along with a phase of training."""

    def prune(step: int) -> None:
        assert plan is not None
        said = pruning.prune(lab, phase.round, plan.amounts[step - 1], step)
        facts.update(prune_ms=facts["prune_ms"] + said["prune_ms"], warnings=facts["warnings"] + said["warnings"])

    found: list[Routine] = []
    part = "regularizer" if phase.round == 0 else "sparse_training"
    if lab.config[part] and not (plan is None and phase.round):
        found.append(_routine(lab, part, phase))
    distill = configs.distillation(lab.config)
    if phase.round and distill:
        found.append(Distillation(lab.dense_network(), **distill))
    if plan is not None and plan.every:
        found.append(Gradual(prune, plan.every, len(plan.amounts)))
    return [*found, Movement(lab.model)] if lab.watches else found


def _fit(
    lab: Lab,
    optimizer: torch.optim.Optimizer,
    round: int,
    iterations: int,
    position: training.Position,
    routines: list[Routine],
) -> Iterator[Row]:
    return training.fit(
        lab.model,
        optimizer,
        lab.data.train,
        lab.data.validation,
        iterations=iterations,
        batch_size=lab.config.train.batch_size,
        seed=lab.seed,
        round=round,
        position=position,
        on_batch=lab.on_batch,
        factor=_factor(lab, round, iterations),
        routines=routines,
        validate_every=lab.config.train.validate_every,
    )


def _factor(lab: Lab, round: int, iterations: int) -> Callable[[int], float] | None:
    """The factor of the learning rate by the iterations done in this phase; None: always 1.

    Fine-tuning goes on at the rate at which dense training ended. What is rewound, weights or rate, goes through
    the schedule again from the point it is rewound to (Renda et al. 2020, arXiv 2003.02389, §3).
    """
    if lab.config.lr_schedule._target_ == "prunelab.training.lr_schedules.constant":
        return None
    dense = lab.dense_epochs * lab.batches
    if round == 0:
        return lambda done: lab.lr_schedule(done / dense)
    point = lab.rewind_iterations()
    mode = lab.config.finetune.lr or ("last" if point is None else "rewind")
    if mode == "last" and dense:
        return lambda done: lab.lr_schedule((dense - 1) / dense)
    first = max(0, dense - iterations) if point is None else point
    whole = max(dense, first + iterations)
    return lambda done: lab.lr_schedule((first + done) / whole)


def _measure(lab: Lab, round: int, rows: list[Row], facts: Row) -> Row:
    """The round's row: what is reported is the last epoch, under the final mask."""
    test_accuracy, test_loss = training.evaluate(lab.model, lab.data.test)
    last = rows[-1] if rows else {}
    return {
        "round": round,
        **facts,
        **metrics.cost(lab.model, metrics.layers(lab.model, lab.example)),
        "train_loss": last.get("train_loss"),
        "val_accuracy": last.get("val_accuracy") or training.evaluate(lab.model, lab.data.validation)[0],
        "test_accuracy": test_accuracy,
        "test_loss": test_loss,
        "early_stop": last.get("early_stop"),
        "epochs": len(rows),
        "seconds": sum(row["seconds"] for row in rows) + facts["prune_ms"] / 1000,
    }
