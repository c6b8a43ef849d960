"""Checks before any training: of the lengths of rounds, the criterion, the pruning method and the model's output."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from prunelab.errors import ConfigError, one_line
from prunelab.experiment.bench import Bench, class_count
from prunelab.pruning.criteria.magnitude import magnitude
from prunelab.pruning.schedules import Round
from prunelab.runtime.seeding import seeded


def check_steps(bench: Bench, rounds: Sequence[Round]) -> None:
    """Raise ConfigError if fine-tuning is too short for a round that prunes during it."""
    iterations = bench.spec.finetune.epochs * bench.batches
    for round in rounds:
        needed = round.every * len(round.amounts)
        if needed > iterations:
            raise ConfigError(
                f"schedule.prunings={len(round.amounts)}, schedule.every={round.every}: need {needed} iterations of "
                f"fine-tuning; finetune.epochs={bench.spec.finetune.epochs} are {iterations}"
            )


def try_method(bench: Bench, rounds: Sequence[Round]) -> None:
    """Prune the untrained network once by a user's `BasePruningMethod`, and undo it; ConfigError if that fails."""
    if all(group.rule.method is None for group in bench.pruner.groups):
        return
    with explained(bench, "strategy"), bench.pruner.undone():
        bench.pruner.prune(rounds[0].amounts[0], seed=0, data=lambda examples: bench.sample(1, min(examples, 2)))


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


@torch.no_grad()
def check_output(bench: Bench) -> None:
    """Run the model on two examples; ConfigError unless it takes them and returns logits."""
    inputs, _ = bench.data.train.batch(slice(0, 2))
    classes = class_count(bench.data)
    name = str(bench.spec.model) if bench.live_model is None else f"model={type(bench.live_model).__name__}"
    try:
        output = bench.model.eval()(inputs)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{name}: cannot take the data's {list(bench.example.shape)}: {one_line(error)}") from error
    if isinstance(output, Tensor):
        fits = output.dim() == 2 and len(output) == len(inputs) and output.shape[1] >= classes
        if fits and output.dtype in (torch.float32, torch.float64):
            return
        output = f"{output.dtype} {list(output.shape)}".removeprefix("torch.")
    else:
        output = type(output).__name__
    wanted = f"must return logits, float32 [{len(inputs)}, {classes}]"
    raise ConfigError(f"{name}: returns {output} for {len(inputs)} examples; {wanted}")


@contextmanager
def explained(bench: Bench, part: str) -> Iterator[None]:
    """Turn any error of a user's method or criterion into a ConfigError, and suppress warnings."""
    method = bench.spec.strategy.method
    key = str(bench.spec.criterion) if part == "criterion" else f"strategy={bench.spec.strategy.name}"
    key = f"strategy.method={method.name}" if method is not None else key
    what = "cannot score this model" if part == "criterion" else "cannot prune this model"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ConfigError as error:
        if "=" in str(error).partition(":")[0]:
            raise  # the message names its key
        raise ConfigError(f"{key}: {what}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{key}: {what}: {one_line(error)}") from error
