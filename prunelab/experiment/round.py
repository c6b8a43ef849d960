"""The stages of an experiment: initial state, dense, round, control, longer; each with the inputs that name it."""

from dataclasses import fields, is_dataclass
from typing import Any

from prunelab.config.component import Component
from prunelab.data.cache import digest
from prunelab.experiment import controls, phase
from prunelab.experiment.bench import Bench, Tensors
from prunelab.experiment.phase import OnEpoch
from prunelab.experiment.prune import Pruning, prune
from prunelab.pruning.criteria.base import Criterion
from prunelab.pruning.schedules import Round
from prunelab.runtime import device
from prunelab.runtime.seeding import seed_all, seeded
from prunelab.stages.stage import Stage, State

# The fields of the spec that name each kind of stage. `init` is named by the tensors and the source of the model.
EVERY = (
    *("seed", "data", "validation", "label_noise", "scale", "shift", "flip"),
    *("model", "optimizer", "decay", "lr_schedule", "train"),
)
DENSE = ("regularizer",)
AXES = ("criterion", "iterations", "granularity", "allocation", "reconstruct")
ROUND = (*AXES, "finetune", "strategy", "sparse_training", "rewind")
# Fields that a stage's name contains in another form: the schedule as the round's amounts, the selection as the names
# of the tensors, a checkpoint and `init` as the initial tensors, device and threads as the hardware.
ELSEWHERE = (
    *("schedule", "compression", "macs", "amount", "tolerance", "selection", "checkpoint", "init"),
    *("device", "threads"),
)
# Fields that change no stage's result, or, `control` and `baseline`, only which stages there are.
UNNAMED = ("control", "baseline", "finish", "outputs", "reuse", "trusted", "plain")


def init(bench: Bench) -> Stage:
    """Return the stage of the initial weights, which are drawn by the seed, loaded from a file, or a live module's."""

    masks = bench.masks.state()  # of weights that are pruned already
    source = None if bench.live_model is not None else bench.spec.model.source
    inputs = {"tensors": digest(bench.initial), "masks": digest(masks) if masks else None, "source": source}
    return Stage("init", None, inputs, lambda work: State(bench.initial, masks))


def dense(bench: Bench, initial: State, on_epoch: OnEpoch, until: int | None = None) -> Stage:
    """Return the stage of dense training, round 0.

    It is the same under every strategy, unless there is a regularizer or a criterion that watches training.

    Args:
        until: number of iterations after which to stop, for late rewinding; None: train to the end.
    """
    until = None if until == bench.dense_iterations else until

    def start() -> Pruning:
        bench.put(initial)
        return Pruning(None)

    inputs = _inputs(bench, (*EVERY, *DENSE)) | {"epochs": bench.dense_epochs, "until": until}
    if bench.spec.regularizer is not None:
        inputs["tensors"] = bench.tensors
    return Stage("dense", initial.stage, inputs, lambda work: phase.train(bench, work, 0, start, on_epoch, until=until))


def prune_and_finetune(
    bench: Bench, number: int, round: Round, parent: State, origin: Tensors | None, on_epoch: OnEpoch
) -> Stage:
    """Return the stage of one round: prune, rewind the weights to `origin` if there is one, fine-tune."""

    def start() -> Pruning:
        bench.put(parent)
        if round.every:
            return Pruning(round.amount)
        pruned = prune(bench, number, round.amount, macs=round.macs)
        if origin is not None:
            bench.restore(origin)  # the weights go back, the masks stay
        return pruned

    inputs = _inputs(bench, (*EVERY, *ROUND)) | {"tensors": bench.tensors, "round": number, "macs": round.macs}
    if round.macs is not None and bench.spec.finish.round_to is not None:
        inputs["round_to"] = bench.spec.finish.round_to
    inputs |= {"amount": list(round.amounts) if round.every else round.amount, "every": round.every or None}
    return Stage("round", parent.stage, inputs, lambda work: phase.train(bench, work, number, start, on_epoch, round))


def control(bench: Bench, number: int, ticket: State, origin: Tensors | None, on_epoch: OnEpoch) -> Stage:
    """Return the stage that trains as the ticket's round does, but from another start. See `controls.apply`."""
    kind = bench.spec.control

    def start() -> Pruning:
        bench.put(ticket)
        assert origin is not None
        assert kind is not None
        with seeded(bench.spec.seed, number, "control"):
            fresh = bench.new_model("control") if kind == "reinit" else None
            seed_all(bench.spec.seed, number, "control")
            controls.apply(kind, bench, fresh, origin)
        return Pruning(ticket.row.amount)

    inputs = _inputs(bench, (*EVERY, "finetune", "rewind")) | {"control": kind, "round": number}
    return Stage("control", ticket.stage, inputs, lambda work: phase.train(bench, work, number, start, on_epoch))


def longer(bench: Bench, number: int, parent: State, origin: Tensors | None, on_epoch: OnEpoch) -> Stage:
    """Return the stage that trains the dense network as a round does, but prunes nothing; the same for every strategy.

    Args:
        parent: the dense network, or the network after the rounds before.
        origin: the weights that a round rewinds to, if it does.
    """

    def start() -> Pruning:
        bench.put(parent)
        if origin is not None:
            bench.restore(origin)
        return Pruning(None)

    inputs = _inputs(bench, (*EVERY, "finetune", "rewind")) | {"round": number}
    return Stage("longer", parent.stage, inputs, lambda work: phase.train(bench, work, number, start, on_epoch))


def _inputs(bench: Bench, names: tuple[str, ...]) -> dict[str, Any]:
    """Return fields of the spec, and what else the bits depend on."""
    found = {name: _identity(getattr(bench.spec, name)) for name in names}
    if bench.live_data is not None:
        found["data"] = None
    found["content"] = bench.data_content
    if bench.live_model is not None:
        found["model"] = bench.live_structure
    found["hardware"] = device.identity(bench.device, device.threads(bench.spec.threads))
    found["executor"] = bench.executor
    # What a criterion records during training is a part of every stage.
    records = type(bench.pruner.recorder).state is not Criterion.state
    found["records"] = _identity(bench.spec.criterion) if records else None
    return found


def _identity(value: Any) -> Any:
    """Return a field of the spec as plain data, without the preset's name, which changes nothing by itself."""
    if isinstance(value, Component):
        return value.identity
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _identity(getattr(value, f.name)) for f in fields(value) if f.name != "name"}
    return [_identity(item) for item in value] if isinstance(value, tuple) else value
