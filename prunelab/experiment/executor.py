"""How an experiment takes its training steps: one by one, or with those of other jobs (hydra/launcher=batched)."""

import json
from collections.abc import Sequence

from torch import Tensor

from prunelab.compaction.proof import full_precision
from prunelab.errors import ConfigError
from prunelab.experiment import live_identity
from prunelab.experiment.bench import Bench
from prunelab.pruning.criteria.base import Criterion
from prunelab.pruning.schedules import Round
from prunelab.runtime.seeding import seeded
from prunelab.runtime.turns import TURN
from prunelab.training import batched_fit
from prunelab.training.cuda_graph import graphed
from prunelab.training.loop import Steps, Training, one_by_one
from prunelab.training.spec import Position, TrainSpec


def choose(bench: Bench, rounds: Sequence[Round]) -> tuple[str | None, Steps]:
    """Return the executor's name for the names of stages (None unless batched), and the function that takes the steps.

    A job that cannot be trained with others tells its sweep why.
    """
    turn, graph = TURN.get(), bool(bench.spec.train.graph)
    if graph and bench.device.type != "cuda":
        raise ConfigError(f"train.graph=true: device={bench.device} has no CUDA graphs; needs device=cuda")
    alone = graphed if graph else one_by_one
    if turn is None:
        return None, alone
    with seeded(bench.spec.seed, "executor"), full_precision():
        reason = _own_ways(bench, rounds) or batched_fit.why_not(lambda: _training(bench), turn.width)
        if reason is None and bench.spec.finetune.optimizer is not None:
            reason = batched_fit.why_not(lambda: _training(bench, 1), turn.width)
    if reason is not None:
        turn.told(reason)
        return None, alone
    structure = json.dumps(live_identity.structure(bench.model), sort_keys=True)

    def together(training: Training, order: Sequence[Tensor]) -> None:
        turn.ask(batched_fit.Epoch(training, order, structure, graph))

    return f"batched {turn.width}", together


def _own_ways(bench: Bench, rounds: Sequence[Round]) -> str | None:
    """Return why jobs cannot share training steps, such as `train.ema acts in each step`; None: they can."""
    spec = bench.spec
    keys = {
        "train.validate_every": spec.train.validate_every,
        "train.ema": spec.train.ema,
        "data.shift": spec.shift,
        "data.flip": spec.flip or None,
        "regularizer": spec.regularizer,
        "sparse_training": spec.sparse_training,
        "finetune.distill": spec.finetune.distill,
        "schedule.every": any(round.every for round in rounds) or None,
        "criterion": None if type(bench.pruner.recorder).state is Criterion.state else spec.criterion,
    }
    return next((f"{key} acts in each step" for key, value in keys.items() if value is not None), None)


def _training(bench: Bench, round: int = 0) -> Training:
    """Return a training of a second network, for one step."""
    spec, model = bench.spec, bench.new_model()
    one = TrainSpec(1, spec.train.batch_size, spec.seed)  # in float32, so that it can be compared
    data, optimizer = bench.data, bench.new_optimizer(model=model, round=round)
    return Training(model, optimizer, data.train, data.validation, one, [], Position(), None, lambda: None, one_by_one)
