"""The rehearsal: all rounds on a throwaway model, before any training, for the plan and for what cannot work."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from prunelab.compaction import macs_target as reaching
from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.experiment import pruning
from prunelab.experiment.lab import MAGNITUDE, Lab
from prunelab.pruning import masks, skipping
from prunelab.pruning.schedules import Round
from prunelab.pruning.strategies import base as strategies
from prunelab.runtime.seeding import seed_torch, seeded

Row = dict[str, Any]


def rehearse(lab: Lab, rounds: list[Round]) -> list[Row]:
    """Prunes a throwaway model through all rounds: the plan, exact to one weight where the counts are.

    They are not where they depend on the weights themselves (`threshold`, channels of different size ranked together);
    that is found by rehearsing with other weights too.

    Tensors that the strategy masks beside the selected ones (a bias with its channel) get their masks of ones now, so
    that the prunable tensors are the same in every round, whether it is computed, resumed or reused.

    Returns:
        Rows of `round`, `amount`, `sparsity`, `left` (the prunable weights that stay) and `exact`.

    Raises:
        ConfigError: if the strategy cannot prune this model.
    """
    model, parameters = lab.new_model()
    if any(round.macs is not None for round in rounds):
        return _by_macs(lab, model, parameters, rounds)
    lefts = [_left(lab, model, parameters, rounds, factor) for factor in (None, 0.1, 10.0)]
    masks.attach_like(lab.model, model)
    by_loss = building.takes(lab.strategy, "loss") and lab.strategy.keywords.get("threshold") is not None
    exact = all(left == lefts[0] for left in lefts) and not by_loss
    _, size = masks.count(lab.model)
    return [
        {"round": number, "amount": round.amount, "sparsity": 1 - left / size, "left": left, "exact": exact}
        for number, (round, left) in enumerate(zip(rounds, lefts[0], strict=True), 1)
    ]


def _by_macs(lab: Lab, model: nn.Module, parameters: masks.Parameters, rounds: list[Round]) -> list[Row]:
    """The plan by multiply-adds; how much goes is only known when the weights are.

    Raises:
        ConfigError: if even the largest amount leaves more than the last round may have.
    """
    shape = building.data_facts(lab.config).get("shape")
    if shape is None:
        raise ConfigError(
            f"schedule.macs={lab.config.schedule.macs}: needs the data's shape; give your function .shape"
        )
    with _explained(lab, "strategy", "cannot prune this model"), seeded(lab.seed, "rehearsal"):
        strategies.prune(model, parameters, lab.strategy, reaching.MOST, loss=functools.partial(_left_out, model))
        least = reaching.share(model, torch.zeros(1, *shape, device=lab.device))
    masks.attach_like(lab.model, model)
    if least > lab.config.schedule.macs:
        raise ConfigError(
            f"schedule.macs={lab.config.schedule.macs}: the smallest network that this strategy leaves, compacted, has "
            f"{least:.2g} of the multiply-adds" + ("; strategy=channel removes whole channels" if least == 1 else "")
        )
    return [
        {"round": number, "amount": None, "sparsity": None, "left": None, "macs": round.macs, "exact": False}
        for number, round in enumerate(rounds, 1)
    ]


def _left(
    lab: Lab, model: nn.Module, parameters: masks.Parameters, rounds: list[Round], factor: float | None
) -> list[int]:
    """How many prunable weights stay after each round, from masks of ones.

    Args:
        factor: instead of the initial weights random ones, larger by this factor from tensor to tensor.
    """
    masks.put_back(model, {})
    if factor is not None:
        with torch.no_grad(), seeded(lab.seed, "rehearsal"):
            for place, (module, name) in enumerate(parameters):
                torch.nn.init.normal_(getattr(module, f"{name}_orig"), std=factor ** min(place, 30))
    left = []
    for number, round in enumerate(rounds, 1):
        seed_torch(lab.seed, number, "prune")
        with _explained(lab, "strategy", "cannot prune this model"):
            for amount in round.amounts:
                strategies.prune(model, parameters, lab.strategy, amount, loss=functools.partial(_left_out, model))
        left.append(masks.count(model)[0])
    return left


def _left_out(model: nn.Module) -> float:
    """Stands in for the validation loss, which needs data: the sum of all |w| of the layers that are skipped."""
    skipped = tuple(f"{name}." for name in skipping.skipped(model))
    return sum(float(item.original.abs().sum()) for item in masks.masked(model) if item.name.startswith(skipped))


def try_criterion(lab: Lab) -> None:
    """Scores the untrained network once, by two examples.

    Raises:
        ConfigError: if the criterion cannot score this model.
    """
    if lab.config.criterion._target_ == MAGNITUDE:
        return
    with seeded(lab.seed, "rehearsal"), _explained(lab, "criterion", "cannot score this model"):
        if lab.watches and (lab.dense_epochs or lab.config.finetune.epochs):
            lab.movement = {name: torch.zeros_like(lab.initial[name]) for name in lab.tensors}
        scores = pruning.score(lab, 1, most=2)
        for (module, name), score in zip(lab.parameters, scores, strict=True):
            if score.shape != getattr(module, name).shape:
                raise ConfigError(
                    f"it gives {list(score.shape)} scores for a weight {list(getattr(module, name).shape)}"
                )
            if not bool(torch.isfinite(score).all() and (score >= 0).all()):
                raise ConfigError("its scores must be finite and ≥ 0")
    lab.movement = {}


@contextmanager
def _explained(lab: Lab, part: str, what: str) -> Iterator[None]:
    """Whatever a strategy or criterion of the user's may raise, as one line; warnings wait for the real round."""
    target = lab.config[part]._target_
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ConfigError as error:
        if "=" in str(error).partition(":")[0]:
            raise  # it names its key
        raise ConfigError(f"{part}._target_={target}: {what}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{part}._target_={target}: {what}: {' '.join(str(error).split())}") from error
