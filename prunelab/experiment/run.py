"""The story: train dense, then rounds of prune → rewind → fine-tune, then finish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from torch import nn

from prunelab.config import build as building
from prunelab.config import check as checking
from prunelab.config import compose as composing
from prunelab.config import schema as configs
from prunelab.config.schema import ConfigError
from prunelab.experiment import controls, phases, pruning
from prunelab.experiment import plan as rehearsal
from prunelab.experiment.finish import finish, need_packages
from prunelab.experiment.lab import MAGNITUDE, Lab
from prunelab.pruning import masks, schedules
from prunelab.pruning.masks import Tensors
from prunelab.pruning.schedules import Round
from prunelab.runtime import device as hardware
from prunelab.runtime.interrupt import graceful
from prunelab.runtime.seeding import seed_torch, seeded
from prunelab.stages.store import Stage, State, Store, Work
from prunelab.tracking.run_folder import RunFolder

Row = dict[str, Any]
OnEpoch = Callable[[Row], None]


class Result(NamedTuple):
    """What an experiment gives: one row a round (0 = dense), the final model with its masks baked in, the folder."""

    rounds: list[Row]
    model: nn.Module
    folder: Path


def run(config: DictConfig, folder: str | Path | None = None) -> Result:
    """Runs one experiment. See `prunelab.run`."""
    checking.check(config)
    folder = Path(folder or composing.run_folder(config))
    facts, telling = composing.facts(config), composing.telling()
    with RunFolder(folder, facts, telling, quiet=composing.in_sweep()) as report, graceful() as interrupt:
        lab, rounds = prepare(config, report, interrupt)
        store = Store(Path(config.outputs) / "stages", reuse=config.reuse, interrupt=interrupt)

        def take(number: int, stage: Stage) -> State:
            report.begin(number, stage.name)
            state = store.run(stage)
            lab.put(state)
            report.end(state, lab.model)
            return state

        state = result = take(0, dense(lab, report.epoch))
        least = None if config.tolerance is None else state.row["val_accuracy"] - config.tolerance
        lab.dense = state.weights
        origin = rewinding_point(lab, store)
        for number, round in enumerate(rounds, 1):
            stage = prune_and_finetune(lab, number, round, state, origin, report.epoch)
            if config.control is None:
                state = shown = take(number, stage)
            else:
                state = store.run(stage)
                shown = take(number, control(lab, number, state, origin, report.epoch))
            if least is not None and shown.row["val_accuracy"] < least:
                report.stop(number, least)
                break
            result = shown
        lab.put(result)
        model = finish(lab, report)
        report.finish(result.row["round"])
    return Result(report.rounds, model, folder)


def prepare(config: DictConfig, report: RunFolder, interrupt: Callable[[], None]) -> tuple[Lab, list[Round]]:
    """Builds what the config names and shows the plan. Whatever is wrong is found here, before training."""
    device = hardware.prepare(config)

    def on_batch() -> None:
        interrupt()
        report.console.advance()

    lab = Lab(config, device, on_batch, interrupt)
    need_packages(config)
    rounds = schedules.rounds(config, target_sparsity(lab))
    plan = rehearsal.rehearse(lab, rounds)
    report.note(device=str(device), threads=hardware.threads(config), deterministic=hardware.deterministic(device))
    lab.load_data()
    rehearsal.try_criterion(lab)
    phases.try_sparse_training(lab)
    _check_steps(lab, rounds)
    epochs = config.finetune.epochs * len(rounds) * (1 if config.control is None else 2)
    epochs += lab.dense_epochs + (lab.rewind_iterations() or 0) // lab.batches
    report.plan(plan, epochs, lab.batches)
    return lab, rounds


def target_sparsity(lab: Lab) -> float | None:
    """The sparsity of the prunable tensors at which the whole model reaches `schedule.compression`.

    Raises:
        ConfigError: if what cannot be pruned is too much for it; says what can be reached.
    """
    target = lab.config.schedule.get("compression")
    if target is None:
        return None
    _, prunable = masks.count(lab.model)
    whole = sum(parameter.numel() for parameter in lab.model.parameters())
    sparsity = whole * (1 - 1 / target) / prunable
    if sparsity >= 1:
        most = whole / max(whole - prunable, 1)
        raise ConfigError(
            f"schedule.compression={target:g}: {whole - prunable:,} of {whole:,} parameters cannot be pruned; "
            f"must be less than {most:.4g}"
        )
    return sparsity


def _check_steps(lab: Lab, rounds: list[Round]) -> None:
    iterations = lab.config.finetune.epochs * lab.batches
    for round in rounds:
        if round.every * len(round.amounts) > iterations:
            raise ConfigError(
                f"schedule.prunings={len(round.amounts)}, schedule.every={round.every}: need "
                f"{round.every * len(round.amounts)} iterations of fine-tuning; finetune.epochs="
                f"{lab.config.finetune.epochs} are {iterations}"
            )


def dense(lab: Lab, on_epoch: OnEpoch, until: int | None = None) -> Stage:
    """Round 0, the network before any pruning; the same stage under every strategy.

    Args:
        until: stop after so many iterations, for late rewinding; None: train to the end.
    """
    epochs = lab.dense_epochs
    until = None if until == epochs * lab.batches else until  # the end needs no stage of its own

    def start() -> Row:
        masks.restore(lab.model, lab.initial, {})
        return {"amount": None, "prune_ms": 0.0, "warnings": []}

    def compute(work: Work) -> State:
        return phases.train(lab, work, 0, epochs * lab.batches if until is None else until, start, on_epoch)

    inputs: Row = {"epochs": epochs, "until": until, "regularizer": _part(lab, "regularizer")}
    if lab.config.regularizer:
        inputs["tensors"] = lab.tensors
    return Stage("dense", None, reads(lab) | inputs, compute)


def prune_and_finetune(
    lab: Lab, number: int, round: Round, parent: State, origin: Tensors | None, on_epoch: OnEpoch
) -> Stage:
    """One round: prune, rewind the weights to `origin` if there is one, fine-tune."""
    epochs = lab.config.finetune.epochs

    def start() -> Row:
        lab.put(parent)
        if round.every:
            return {"amount": round.amount, "prune_ms": 0.0, "warnings": []}
        facts = pruning.prune(lab, number, round.amount, macs=round.macs)
        if origin is not None:
            masks.restore(lab.model, origin)  # the weights go back, the masks stay
        return facts

    def compute(work: Work) -> State:
        return phases.train(lab, work, number, epochs * lab.batches, start, on_epoch, round)

    inputs = {
        "strategy": building.identity(lab.config, "strategy"),
        "criterion": _part(lab, "criterion", without=MAGNITUDE),
        "sparse_training": _part(lab, "sparse_training"),
        "tensors": lab.tensors,
        "round": number,
        "amount": list(round.amounts) if round.every else round.amount,
        "every": round.every or None,
        "macs": round.macs,
        "rewind": configs.rewind_point(lab.config),
        "epochs": epochs,
        "lr": lab.config.finetune.lr,
        "distill": configs.distillation(lab.config),
    }
    return Stage("round", parent.stage, reads(lab) | inputs, compute)


def control(lab: Lab, number: int, ticket: State, origin: Tensors | None, on_epoch: OnEpoch) -> Stage:
    """The same training as the ticket's in this round, from another start. See `controls.apply`."""
    epochs, kind = lab.config.finetune.epochs, lab.config.control

    def start() -> Row:
        lab.put(ticket)
        assert origin is not None
        with seeded(lab.seed, number, "control"):
            fresh = lab.new_model("control")[0] if kind == "reinit" else lab.model
            seed_torch(lab.seed, number, "control")
            controls.apply(kind, lab.model, fresh, origin)
        return {"amount": ticket.row["amount"], "prune_ms": 0.0, "warnings": []}

    def compute(work: Work) -> State:
        return phases.train(lab, work, number, epochs * lab.batches, start, on_epoch)

    inputs: Row = {"control": kind, "round": number, "epochs": epochs, "lr": lab.config.finetune.lr}
    inputs |= {"rewind": configs.rewind_point(lab.config), "distill": configs.distillation(lab.config)}
    return Stage("control", ticket.stage, reads(lab) | inputs, compute)


def rewinding_point(lab: Lab, store: Store) -> Tensors | None:
    """The weights that each round goes back to: None, the initial ones, or those of dense training stopped early."""
    iterations = lab.rewind_iterations()
    if iterations is None or iterations == 0:
        return lab.initial if iterations == 0 else None
    return store.run(dense(lab, lambda row: None, iterations)).weights


def reads(lab: Lab) -> Row:
    """The config keys that every stage reads, for its name."""
    parts = {part: building.identity(lab.config, part) for part in ("data", "model", "optimizer")}
    return {
        **parts,
        "lr_schedule": _part(lab, "lr_schedule", without="prunelab.training.lr_schedules.constant"),
        "validate_every": lab.config.train.validate_every,
        "movement": True if lab.watches else None,
        "batch_size": lab.config.train.batch_size,
        "seed": lab.seed,
        "hardware": hardware.identity(lab.device, hardware.threads(lab.config)),
    }


def _part(lab: Lab, part: str, without: str | None = None) -> Row | None:
    """What a part of the config is; None for one that is not chosen, or that is `without` more keys."""
    if not lab.config[part]:
        return None
    identity = building.identity(lab.config, part)
    return None if identity == {"_target_": without} else identity
