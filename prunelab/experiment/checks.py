"""Checks before any training: of the lengths of rounds, the criterion and the pruning method."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from prunelab.errors import ConfigError
from prunelab.experiment.bench import Bench
from prunelab.pruning.criteria.magnitude import magnitude
from prunelab.pruning.schedules import Round
from prunelab.runtime import user_code
from prunelab.runtime.seeding import seeded


def check_steps(bench: Bench, rounds: Sequence[Round]) -> None:
    """Raise ConfigError if fine-tuning is too short for a round that prunes during it."""
    iterations = bench.finetune_iterations
    for round in rounds:
        needed = round.every * len(round.amounts)
        if needed > iterations:
            raise ConfigError(
                f"schedule.prunings={len(round.amounts)}, schedule.every={round.every}: need {needed} iterations of "
                f"fine-tuning; finetune.epochs={bench.spec.finetune.epochs} are {iterations}"
            )


def try_method(bench: Bench, rounds: Sequence[Round]) -> None:
    """Prune the untrained network once if a user's `BasePruningMethod` decides or `reconstruct` is set, and undo it.

    Raises:
        ConfigError: if that fails.
    """
    reconstruct = bench.spec.reconstruct
    if reconstruct is None and all(group.rule.method is None for group in bench.pruner.groups):
        return
    with explained(bench, "strategy"), bench.pruner.undone():
        amount = rounds[0].amounts[0]
        bench.pruner.prune(amount, seed=0, data=lambda n: bench.sample(1, min(n, 2)), reconstruct=reconstruct)


def try_criterion(bench: Bench) -> None:
    """Score the untrained network once, on two examples; ConfigError if the criterion cannot score this model."""
    own = any(group.rule.criterion is not None for group in bench.pruner.groups)
    if bench.layers is not None or (bench.pruner.criterion is magnitude and not own):
        return
    trained = bench.dense_epochs or bench.spec.finetune.epochs
    with explained(bench, "criterion"), seeded(bench.spec.seed, "rehearsal"):
        if trained:
            bench.pruner.recorder.load({item.name: torch.zeros_like(item.parameter) for item in bench.pruner.items})
        for score in bench.pruner.score(lambda examples: bench.sample(1, min(examples, 2))):
            if not bool(torch.isfinite(score).all() and (score >= 0).all()):
                raise ConfigError("its scores must be finite and ≥ 0")
    bench.pruner.recorder.load({})


def check_live(bench: Bench) -> None:
    """Raise ConfigError where a live model is to be exported or quantised: files are rebuilt from the config."""
    wanted = bench.spec.finish
    if bench.live_model is not None and (wanted.export or wanted.quantize):
        key = f"export=[{','.join(wanted.export)}]" if wanted.export else f"quantize={wanted.quantize}"
        raise ConfigError(f"{key}: is for models that the config names; use prunelab.export(result.model, folder, …)")


def decides(bench: Bench) -> str:
    """Return the key of the pruning method, or else of the criterion, for messages."""
    method = bench.spec.strategy.method
    return str(bench.spec.criterion) if method is None else f"strategy.method={method.name}"


@contextmanager
def explained(bench: Bench, part: str) -> Iterator[None]:
    """Turn any error of a pruning method or criterion into a ConfigError, and suppress warnings."""
    chosen = part == "criterion" or bench.spec.strategy.method is not None
    key = decides(bench) if chosen else f"strategy={bench.spec.strategy.name}"
    what = "cannot score this model" if part == "criterion" else "cannot prune this model"
    with warnings.catch_warnings(), user_code.explained(key, what, bench.model):
        warnings.simplefilter("ignore")
        yield
