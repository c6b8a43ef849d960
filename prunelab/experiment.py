"""The story: train dense, then rounds of prune → rewind → fine-tune, then finish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from torch import nn

from prunelab import building, checking, composing, export, hardware, masks, schedules
from prunelab import config as configs
from prunelab.config import ConfigError
from prunelab.lab import Lab
from prunelab.masks import Tensors
from prunelab.signals import graceful
from prunelab.stages import Stage, State, Store, Work
from prunelab.tracking.run import RunFolder

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
    with RunFolder(folder, composing.facts(config), quiet=composing.in_sweep()) as report, graceful() as interrupt:
        lab, amounts = prepare(config, report, interrupt)
        store = Store(Path(config.outputs) / "stages", reuse=config.reuse, interrupt=interrupt)

        def take(round: int, stage: Stage) -> State:
            report.begin(round, stage.name)
            state = store.run(stage)
            lab.put(state)
            report.end(state, lab.model)
            return state

        state = take(0, dense(lab, report.epoch))
        origin = rewinding_point(lab, store)
        for round, amount in enumerate(amounts, 1):
            state = take(round, prune_and_finetune(lab, round, amount, state, origin, report.epoch))
        model = export.write(folder, lab.model)
        report.finish()
    return Result(report.rounds, model, folder)


def prepare(config: DictConfig, report: RunFolder, interrupt: Callable[[], None]) -> tuple[Lab, schedules.Amounts]:
    """Builds what the config names and shows the plan. Whatever is wrong is found here, before training."""
    device = hardware.prepare(config)
    amounts = schedules.amounts(config)

    def on_batch() -> None:
        interrupt()
        report.console.advance()

    lab = Lab(config, device, on_batch)
    plan = lab.rehearse(amounts)
    report.note(device=str(device), threads=hardware.threads(config), deterministic=hardware.deterministic(device))
    lab.load_data()
    epochs = config.train.epochs + config.finetune.epochs * len(amounts) + (rewind_iterations(lab) or 0) // lab.batches
    report.plan(plan, epochs, lab.batches)
    return lab, amounts


def dense(lab: Lab, on_epoch: OnEpoch, until: int | None = None) -> Stage:
    """Round 0, the network before any pruning; the same stage under every strategy.

    Args:
        until: stop after so many iterations, for late rewinding; None: train to the end.
    """
    epochs = lab.config.train.epochs
    until = None if until == epochs * lab.batches else until  # the end needs no stage of its own

    def start() -> Row:
        masks.restore(lab.model, lab.initial, {})
        return {"amount": None, "prune_ms": 0.0, "warnings": []}

    def compute(work: Work) -> State:
        return lab.train(work, 0, epochs * lab.batches if until is None else until, start, on_epoch)

    return Stage("dense", None, reads(lab) | {"epochs": epochs, "until": until}, compute)


def prune_and_finetune(
    lab: Lab, round: int, amount: float | None, parent: State, origin: Tensors | None, on_epoch: OnEpoch
) -> Stage:
    """One round: prune, rewind the weights to `origin` if there is one, fine-tune."""
    epochs = lab.config.finetune.epochs

    def start() -> Row:
        lab.put(parent)
        facts = lab.prune(round, amount)
        if origin is not None:
            masks.restore(lab.model, origin)  # the weights go back, the masks stay
        return facts

    def compute(work: Work) -> State:
        return lab.train(work, round, epochs * lab.batches, start, on_epoch)

    inputs = {
        "strategy": building.identity(lab.config, "strategy"),
        "tensors": lab.tensors,
        "round": round,
        "amount": amount,
        "rewind": configs.rewind_point(lab.config),
        "epochs": epochs,
    }
    return Stage("round", parent.stage, reads(lab) | inputs, compute)


def rewinding_point(lab: Lab, store: Store) -> Tensors | None:
    """The weights that each round goes back to: None, the initial ones, or those of dense training stopped early."""
    iterations = rewind_iterations(lab)
    if iterations is None or iterations == 0:
        return lab.initial if iterations == 0 else None
    return store.run(dense(lab, lambda row: None, iterations)).weights


def rewind_iterations(lab: Lab) -> int | None:
    """`rewind` in iterations of dense training (Frankle et al. 2020, arXiv 1912.05671); None: no rewinding.

    Raises:
        ConfigError: if the point lies beyond dense training.
    """
    point = configs.rewind_point(lab.config)
    if point is None:
        return None
    last = lab.config.train.epochs * lab.batches
    iterations = int(point.rstrip("epit")) * (lab.batches if point.endswith("ep") else 1)
    if iterations > last:
        raise ConfigError(f"rewind={point}: dense training has {last} iterations; must be at most {last}it")
    return iterations


def reads(lab: Lab) -> Row:
    """The config keys that every stage reads, for its name."""
    parts = {part: building.identity(lab.config, part) for part in ("data", "model", "optimizer")}
    return {
        **parts,
        "batch_size": lab.config.train.batch_size,
        "seed": lab.seed,
        "hardware": hardware.identity(lab.device, hardware.threads(lab.config)),
    }
