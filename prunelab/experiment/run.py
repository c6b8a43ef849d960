"""The algorithm of an experiment: train dense, then rounds of prune → rewind → fine-tune, then finish."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from prunelab.config.network import users_parts
from prunelab.config.rounds import rounds as planned_rounds
from prunelab.config.spec import Spec
from prunelab.data.dataset import Dataset
from prunelab.experiment import baseline, checks, executor, gate, proof
from prunelab.experiment import plan as plans
from prunelab.experiment import round as stages
from prunelab.experiment.bench import Bench, Hooks, Tensors
from prunelab.experiment.finish import finish, need_packages
from prunelab.experiment.phase import try_sparse_training
from prunelab.experiment.result import Result
from prunelab.pruning.criteria.magnitude import magnitude
from prunelab.pruning.schedules import Round
from prunelab.runtime import device as devices
from prunelab.runtime.interrupt import graceful
from prunelab.runtime.user_code import user_code
from prunelab.stages.stage import Stage, State
from prunelab.stages.store import Store
from prunelab.tracking.origin import Origin
from prunelab.tracking.run_folder import RunFolder


def run(
    spec: Spec, folder: Path, origin: Origin, model: nn.Module | None = None, data: Dataset | None = None
) -> Result:
    """Run one experiment in a run folder; `model` and `data` replace the spec's.

    Raises:
        ConfigError: for an experiment that cannot run, before any training.
    """
    parts = users_parts(spec, model, data)
    with RunFolder(folder, origin, spec) as report, user_code(parts), graceful() as interrupt:
        bench, rounds = prepare(spec, report, interrupt, model, data)
        store = Store(Path(spec.outputs) / "stages", reuse=spec.reuse, interrupt=interrupt)
        final_round = train_and_prune(bench, rounds, store, report)
        final = finish(bench, report, report.rounds[final_round])
        report.finish()
    return Result(report.rounds, final, folder, report.problems.lines, report.baseline)


def train_and_prune(bench: Bench, rounds: Sequence[Round], store: Store, report: RunFolder) -> int:
    """Train dense, then prune → rewind → fine-tune in rounds. Leave the result in the model; return its round."""
    spec, take = bench.spec, functools.partial(_take, bench, store, report)
    initial = store.run(stages.init(bench))
    state = result = dense = take(0, stages.dense(bench, initial, report.epoch))
    least = None if spec.tolerance is None else state.row.val_accuracy - spec.tolerance
    bench.dense = state.weights
    rewound = rewinding_point(bench, store, initial)
    for number, round in enumerate(rounds, 1):
        stage = stages.prune_and_finetune(bench, number, round, state, rewound, report.epoch)
        if spec.control is None:
            state = shown = take(number, stage)
        else:
            state = store.run(stage)
            shown = take(number, stages.control(bench, number, state, rewound, report.epoch))
        if least is not None and shown.row.val_accuracy < least:
            report.stop(number, least)
            break
        result = shown
    if spec.baseline:
        baseline.train_as_long(bench, store, report, dense, rewound, result.row.round)
    bench.put(result)
    return result.row.round


def _take(bench: Bench, store: Store, report: RunFolder, number: int, stage: Stage) -> State:
    """Compute a stage or look it up, load its result into the model, and write the round's rows."""
    report.begin(number, stage.name)
    state = store.run(stage)
    bench.put(state)
    report.end(state, bench.masks)
    return state


def prepare(
    spec: Spec, report: RunFolder, interrupt: Callable[[], None], model: nn.Module | None, data: Dataset | None
) -> tuple[Bench, list[Round]]:
    """Build the experiment, check everything that can be checked before training, and show the plan."""

    def on_batch() -> None:
        interrupt()
        report.console.advance()

    device = devices.prepare(spec.device, spec.threads, spec.train.precision)
    bench = Bench(spec, device, Hooks(on_batch, interrupt), model, data)
    proof.announce()
    need_packages(spec.finish)
    checks.check_live(bench)
    if model is not None:
        report.note(live_model=type(model).__name__)
    rounds = planned_rounds(spec, plans.target_sparsity(bench))
    planned = plans.plan(bench, rounds)
    report.note(device=str(device), threads=devices.threads(spec.threads), deterministic=devices.deterministic(device))
    bench.load_data()
    gate.check(bench, rounds[0])
    checks.try_criterion(bench)
    checks.try_method(bench, rounds)
    try_sparse_training(bench)
    checks.check_steps(bench, rounds)
    bench.executor, bench.steps = executor.choose(bench, rounds)
    if bench.executor is not None:
        report.note(executor=bench.executor)
    iterations = bench.finetune_iterations * len(rounds) * (1 if spec.control is None else 2)
    iterations += baseline.rounds(bench, len(rounds)) * bench.finetune_iterations if spec.baseline else 0
    iterations += bench.dense_iterations + (bench.rewind_iterations() or 0)
    report.plan(planned, math.ceil(iterations / bench.batches), bench.batches)
    if notes := plans.notes(bench):
        report.tell("plan_notes", notes, "\n".join(notes))
    return bench, rounds


def rewinding_point(bench: Bench, store: Store, initial: State) -> Tensors | None:
    """Return the weights that each round goes back to: none, the initial ones, or those at a point of dense training.

    Free the initial weights if nothing reads them again, since they take the memory of a whole network.
    """
    iterations = bench.rewind_iterations()
    if iterations == 0:
        return initial.weights
    point = None if iterations is None else stages.dense(bench, initial, lambda row: None, iterations)
    found = None if point is None else store.run(point).weights
    if bench.pruner.criterion is magnitude:
        initial.weights.clear()
        bench.initial.clear()
    return found
