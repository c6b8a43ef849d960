"""The fair baseline: the dense network, trained for as many epochs as the pruned one, and not pruned."""

import math
from dataclasses import replace

from prunelab.experiment import round as stages
from prunelab.experiment.bench import Bench, Tensors
from prunelab.records import EpochRecord
from prunelab.stages.stage import State
from prunelab.stages.store import Store
from prunelab.text import percent
from prunelab.tracking.run_folder import RunFolder


def rounds(bench: Bench, pruned: int) -> int:
    """Return how many `longer` stages train the dense network for as many iterations as `pruned` rounds do.

    A network that is rewound in each round has been trained to the point of rewinding, and for one round.
    """
    if not bench.finetune_iterations:
        return 0
    point = bench.rewind_iterations()
    if point is None:
        return pruned
    as_long = point + bench.finetune_iterations == bench.dense_iterations
    return 0 if as_long else min(pruned, 1)


def train_as_long(
    bench: Bench, store: Store, report: RunFolder, dense: State, origin: Tensors | None, pruned: int
) -> None:
    """Train the dense network as long as one of `pruned` rounds, which rewind to `origin`, if at all; report it."""

    def on_epoch(row: EpochRecord) -> None:
        report.console.describe(f"dense, as long: {percent(row.val_accuracy, 2)}")
        if row.reused:
            report.console.skip_epoch()

    state, seconds = dense, 0.0 if origin is not None else dense.row.seconds
    number = rounds(bench, pruned)
    for n in range(1, number + 1):
        state = store.run(stages.longer(bench, n, state, origin, on_epoch))
        seconds += state.row.seconds
        for epoch in state.epochs if state.reused else ():
            on_epoch(replace(epoch, reused=True))
    if number:
        before = bench.dense_iterations if origin is None else bench.rewind_iterations() or 0
        epochs = math.ceil((before + number * bench.finetune_iterations) / bench.batches)
        report.longer(replace(state.row, epochs=epochs, seconds=seconds, stage=state.stage, reused=state.reused))
