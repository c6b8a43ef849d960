"""One pruning of the experiment's network: by an amount, by validation loss, or to a number of multiply-adds."""

import time
import warnings
from dataclasses import dataclass, field
from functools import partial

from prunelab.compaction import macs_target
from prunelab.errors import ConfigError
from prunelab.experiment.bench import Bench
from prunelab.experiment.checks import decides
from prunelab.pruning import skipping
from prunelab.runtime.seeding import derive, seeded
from prunelab.runtime.user_code import explained


@dataclass
class Pruning:
    """A round's pruning; `schedule=gradual` adds up several.

    Attributes:
        amount: the fraction that was removed; None if the allocation sets its own sparsity.
        prune_ms: duration in milliseconds.
        warnings: a sentence for each tensor that this pruning has left with one weight or one channel.
        losses: strategy=layer: validation losses by the names of the layers that were skipped, separated by spaces.
        layers_gone: names of the layers that were removed.
    """

    amount: float | None
    prune_ms: float = 0.0
    warnings: tuple[str, ...] = ()
    losses: dict[str, float] = field(default_factory=dict)
    layers_gone: tuple[str, ...] = ()


def prune(bench: Bench, round: int, amount: float | None, step: int = 1, macs: float | None = None) -> Pruning:
    """Prune once, with random scores seeded by (seed, round, step).

    Args:
        macs: target that replaces the amount: multiply-adds after compaction ÷ those of the dense network.
    """
    parts: tuple[int | str, ...] = (bench.spec.seed, round, "prune", *([step] if step > 1 else []))
    losses = _Losses(bench)

    def by(amount: float | None) -> None:
        losses.asked.clear()
        if bench.layers is None:
            with explained(decides(bench), "cannot prune this model", only=ConfigError):
                data, reconstruct = partial(bench.sample, round), bench.spec.reconstruct
                bench.pruner.prune(amount, seed=derive(*parts), data=data, reconstruct=reconstruct)
            return
        with seeded(*parts):
            bench.layers.remove(amount, losses)
        bench.masks.apply()

    def attempt(amount: float) -> None:
        bench.hooks.interrupt()
        by(amount)

    start = time.perf_counter()
    if macs is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of trials
            round_to = bench.spec.finish.round_to
            amount = macs_target.amount(bench.model, bench.masks, bench.example, macs, attempt, round_to)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        by(amount)
    took = (time.perf_counter() - start) * 1000
    said = tuple(str(warning.message) for warning in caught)
    return Pruning(amount, took, said, dict(losses.asked), losses.left_out() if losses.asked else ())


class _Losses:
    """The validation loss of the present network, computed once for each set of layers that are skipped.

    Attributes:
        asked: the losses of the present pruning, by the names of the layers that it skips beside those skipped before.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.gone = bench, set(skipping.skipped(bench.model))
        self.known: dict[str, float] = {}
        self.asked: dict[str, float] = {}

    def left_out(self) -> tuple[str, ...]:
        """Return the layers that this pruning skips now, in the model's own order."""
        return tuple(name for name in skipping.skipped(self.bench.model) if name not in self.gone)

    def __call__(self) -> float:
        model, without = self.bench.model, " ".join(self.left_out())
        if without not in self.known:
            training_now = model.training
            self.known[without] = self.bench.evaluate(self.bench.data.validation).loss
            model.train(training_now)
        self.asked[without] = self.known[without]
        return self.known[without]
