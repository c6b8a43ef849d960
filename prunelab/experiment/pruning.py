"""One pruning of the lab's network: by an amount, or by what compaction is to leave of it."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from prunelab.compaction import macs_target as reaching
from prunelab.config import build as building
from prunelab.experiment.lab import Lab
from prunelab.pruning import skipping
from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.base import Batch, Scores
from prunelab.pruning.strategies import base as strategies
from prunelab.runtime.seeding import permutation, seeded
from prunelab.training import loop as training

Row = dict[str, Any]


def prune(lab: Lab, round: int, amount: float | None, step: int = 1, macs: float | None = None) -> Row:
    """Lets the strategy tighten the masks once, seeded by (seed, round, step). Returns what a round says of it.

    Args:
        macs: instead of an amount, the share of multiply-adds that compaction is to leave.

    Returns:
        `amount`, `prune_ms`, `warnings`; of a strategy that goes by the validation loss also `losses`, which it has
        seen, by the names of the layers that were left out, and `layers_gone`, the names of those that it removed.
    """
    parts: tuple[int | str, ...] = (lab.seed, round, "prune", *([step] if step > 1 else []))
    scored = functools.partial(score, lab, round) if building.takes(lab.strategy, "scores") else None
    loss = _Losses(lab)

    def by(amount: float | None) -> float:
        loss.asked.clear()
        iterations = lab.config.criterion.iterations
        with seeded(*parts):
            return strategies.prune(lab.model, lab.parameters, lab.strategy, amount, scored, iterations, loss)

    start = time.perf_counter()
    if macs is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of trials
            amount = reaching.amount(lab.model, lab.example, macs, lambda tried: (lab.interrupt(), by(tried)))
    searched = (time.perf_counter() - start) * 1000
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        took = by(amount)
    said = {"amount": amount, "prune_ms": searched + took, "warnings": [str(w.message) for w in caught]}
    return said | ({"losses": loss.asked, "layers_gone": loss.left_out()} if loss.asked else {})


def score(lab: Lab, round: int, most: int | None = None) -> Scores:
    """What the criterion says of the prunable weights, as they are now.

    Args:
        most: examples that it gets at most, for a trial.
    """
    evidence = criteria.gather(
        lab.model,
        lab.tensors,
        lab.initial,
        lab.movement,
        lambda examples: _sample(lab, round, min(examples, most or examples)),
        list(lab.example.shape[1:]),
    )
    with torch.enable_grad():
        return lab.criterion(evidence)


class _Losses:
    """The validation loss of the network as it is now, by the layers that are left out beside those already gone.

    Attributes:
        asked: those that were asked for, by the names of the layers; each is computed once.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab, self.gone = lab, set(skipping.skipped(lab.model))
        self.known: dict[str, float] = {}
        self.asked: dict[str, float] = {}

    def left_out(self) -> list[str]:
        """The layers that are left out now, in the model's own order."""
        return [name for name in skipping.skipped(self.lab.model) if name not in self.gone]

    def __call__(self) -> float:
        model, without = self.lab.model, " ".join(self.left_out())
        if without not in self.known:
            training_now = model.training
            self.known[without] = training.evaluate(model, self.lab.data.validation)[1]
            model.train(training_now)
        self.asked[without] = self.known[without]
        return self.known[without]


def _sample(lab: Lab, round: int, examples: int) -> Iterator[Batch]:
    """Examples of the training split, drawn by (seed, round), in batches."""
    order = permutation(len(lab.data.train), lab.seed, round, "criterion", device=lab.device)[:examples]
    return (lab.data.train.batch(index) for index in order.split(lab.config.train.batch_size))
