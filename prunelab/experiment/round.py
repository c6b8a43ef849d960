"""The stages of an experiment: the initial state, dense training, one round, and a control; each with what names it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from prunelab.config.component import Component
from prunelab.data.dataset import Dataset, Split
from prunelab.experiment import controls, phase
from prunelab.experiment.bench import Bench, Tensors
from prunelab.experiment.phase import OnEpoch
from prunelab.experiment.prune import Pruning, prune
from prunelab.pruning.criteria.base import Criterion
from prunelab.pruning.schedules import Round
from prunelab.runtime import device
from prunelab.runtime.seeding import seed_all, seeded
from prunelab.stages.checkpoint import Work
from prunelab.stages.stage import Stage, State

# Which stages a field of the spec names. `init` is named by the tensors and the source of the model.
EVERY = ("seed", "data", "model", "optimizer", "lr_schedule", "train")
DENSE = ("regularizer",)
ROUND = ("finetune", "criterion", "iterations", "granularity", "allocation", "strategy", "sparse_training", "rewind")
# Fields that change no stage, or that reach it in another form: a schedule as the round's amounts, the selection as the
# names of the tensors, a checkpoint as the initial tensors, device and threads as the hardware.
ELSEWHERE = ("schedule", "compression", "macs", "amount", "tolerance", "selection", "checkpoint", "device", "threads")
UNNAMED = ("control", "finish", "outputs", "reuse", "trusted", "plain")


def init(bench: Bench) -> Stage:
    """The initial state, before any training: weights drawn by the seed, loaded from a file, or of a live module."""

    def compute(work: Work) -> State:
        return State(bench.initial)

    source = None if bench.live_model is not None else bench.spec.model.source
    return Stage("init", None, {"tensors": digest(bench.initial), "source": source}, compute)


def dense(bench: Bench, initial: State, on_epoch: OnEpoch, until: int | None = None) -> Stage:
    """Round 0, the network before any pruning; the same stage under every strategy.

    Args:
        until: stop after so many iterations, for late rewinding; None: train to the end.
    """
    whole = bench.dense_epochs * bench.batches
    until = None if until == whole else until  # the end needs no stage of its own

    def start() -> Pruning:
        bench.put(initial)
        return Pruning(None)

    def compute(work: Work) -> State:
        return phase.train(bench, work, 0, whole if until is None else until, start, on_epoch)

    inputs = _inputs(bench, (*EVERY, *DENSE)) | {"epochs": bench.dense_epochs, "until": until}
    if bench.spec.regularizer is not None:
        inputs["tensors"] = bench.tensors
    return Stage("dense", initial.stage, inputs, compute)


def prune_and_finetune(
    bench: Bench, number: int, round: Round, parent: State, origin: Tensors | None, on_epoch: OnEpoch
) -> Stage:
    """One round: prune, rewind the weights to `origin` if there is one, fine-tune."""
    iterations = bench.spec.finetune.epochs * bench.batches

    def start() -> Pruning:
        bench.put(parent)
        if round.every:
            return Pruning(round.amount)
        pruned = prune(bench, number, round.amount, macs=round.macs)
        if origin is not None:
            bench.restore(origin)  # the weights go back, the masks stay
        return pruned

    def compute(work: Work) -> State:
        return phase.train(bench, work, number, iterations, start, on_epoch, round)

    inputs = _inputs(bench, (*EVERY, *ROUND)) | {"tensors": bench.tensors, "round": number, "macs": round.macs}
    inputs |= {"amount": list(round.amounts) if round.every else round.amount, "every": round.every or None}
    return Stage("round", parent.stage, inputs, compute)


def control(bench: Bench, number: int, ticket: State, origin: Tensors | None, on_epoch: OnEpoch) -> Stage:
    """The same training as the ticket's in this round, from another start. See `controls.apply`."""
    kind, iterations = bench.spec.control, bench.spec.finetune.epochs * bench.batches

    def start() -> Pruning:
        bench.put(ticket)
        assert origin is not None
        assert kind is not None
        with seeded(bench.spec.seed, number, "control"):
            fresh = bench.new_model("control") if kind == "reinit" else None
            seed_all(bench.spec.seed, number, "control")
            controls.apply(kind, bench, fresh, origin)
        return Pruning(ticket.row.amount)

    def compute(work: Work) -> State:
        return phase.train(bench, work, number, iterations, start, on_epoch)

    inputs = _inputs(bench, (*EVERY, "finetune", "rewind")) | {"control": kind, "round": number}
    return Stage("control", ticket.stage, inputs, compute)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return SHA-256 over names, types, shapes and contents of tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _inputs(bench: Bench, names: tuple[str, ...]) -> dict[str, Any]:
    """Whole fields of the spec, and what the bits depend on beside it."""
    found = {name: _identity(getattr(bench.spec, name)) for name in names}
    if bench.live_data is not None:
        found["data"] = _content(bench.live_data)
    if bench.live_model is not None:
        found["model"] = None
    found["hardware"] = device.identity(bench.device, device.threads(bench.spec.threads))
    found["records"] = _identity(bench.spec.criterion) if _records(bench) else None
    return found


def _records(bench: Bench) -> bool:
    """Whether the criterion records something during training, which then is a part of every stage."""
    return isinstance(bench.pruner.criterion, Criterion) and type(bench.pruner.criterion).state is not Criterion.state


def _identity(value: Any) -> Any:
    """A field of the spec as plain data; the preset's name says nothing that its axes do not say."""
    if isinstance(value, Component):
        return value.identity
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _identity(getattr(value, f.name)) for f in fields(value) if f.name != "name"}
    return [_identity(item) for item in value] if isinstance(value, tuple) else value


def _content(data: Dataset) -> dict[str, str]:
    splits = {"train": data.train, "validation": data.validation, "test": data.test}

    def tensors(split: Split) -> dict[str, Tensor]:
        norm = {"mean": torch.as_tensor(split.mean), "std": torch.as_tensor(split.std)}
        return {"inputs": split.inputs, "labels": split.labels, **norm}

    return {key: digest(tensors(split)) for key, split in splits.items()}
