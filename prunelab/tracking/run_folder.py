"""A run folder: rows to the console, CSV and TensorBoard, and the summary of how the run ended."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import logging
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from torch import nn

from prunelab.config import compose as composing
from prunelab.costs import counts as metrics
from prunelab.pruning import masks
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.stages import files
from prunelab.stages.store import State
from prunelab.tracking import cost_table as cost
from prunelab.tracking.console import Console, percent, without_layers
from prunelab.tracking.csv_files import COLUMNS, Tables

if TYPE_CHECKING:
    from prunelab.tracking.tensorboard import TensorBoard

Row = dict[str, Any]
READABLE = 64  # masks with no more entries than this, together, are printed
REPLACED = (*COLUMNS, "summary.json", "masks.safetensors", "model.*", "compact.*", "**/events.out.tfevents.*")
VERSIONED = ("prunelab", "torch", "hydra-core", "omegaconf", "tensorboard", "numpy")
log = logging.getLogger(__name__)


class RunFolder:
    """Everything that one run leaves behind. What an earlier run left in the same folder is replaced, not added to.

    Args:
        folder: made if it is not there.
        facts: what the summary says from the start: config, command, seed …
        telling: the overrides that tell the run from others, for TensorBoard: its hparams, and in a sweep its name.
        quiet: nothing but warnings on the screen.

    Raises:
        StorageError: if the folder cannot be written; names it and the free bytes.
    """

    def __init__(
        self, folder: Path, facts: Mapping[str, Any], telling: Sequence[str] | None = None, *, quiet: bool = False
    ) -> None:
        self.folder, self.telling = folder, telling
        self.console = Console(quiet=quiet)
        self.rounds: list[Row] = []
        self.now: Row = {}
        self.started = time.perf_counter()
        self.summary: Row = {
            "status": "running",
            **facts,
            "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "versions": {name: _version(name) for name in VERSIONED} | {"python": platform.python_version()},
        }
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for old in (found for pattern in REPLACED for found in folder.glob(pattern)):
                old.unlink(missing_ok=True)
        self._write_summary()
        with files.writing(folder):
            self.tables = Tables(folder)
        self._board: TensorBoard | None = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.console.close()
        try:
            if error is not None and self.summary["status"] != "completed":  # else the signal came too late
                stopped = isinstance(error, (InterruptedRun, KeyboardInterrupt))
                self.summary |= {"status": "interrupted" if stopped else "failed", "error": str(error) or repr(error)}
                log.info("%s: %s", self.summary["status"], self.summary["error"], exc_info=error)
                self._write_summary()
            self._close()
        except files.StorageError:
            if error is None:
                raise  # else the first error is the one to tell

    def note(self, **facts: Any) -> None:
        """Adds facts to the summary."""
        self.summary |= facts

    def plan(self, plan: list[Row], epochs: int, batches: int) -> None:
        """Shows the plan, and how long the whole run will be: `epochs` of `batches` each."""
        self.note(plan=plan)
        self._write_summary()
        self.console.plan(plan, epochs, batches)

    def begin(self, round: int, stage: str) -> None:
        """A round begins; its rows will carry the name of its stage."""
        self.now = {"round": round, "stage": stage}
        self.console.describe("dense" if round == 0 else f"round {round}")

    def epoch(self, row: Row) -> None:
        """One epoch of the round that has begun; `reused` if it was trained by an earlier run."""
        row = {**self.now, **row}
        with files.writing(self.folder):
            self.tables.write("epochs.csv", row)
            self.board.epoch(row)
        if row["reused"]:
            self.console.skip_epoch()
        self.console.describe(f"round {row['round']}, validation {percent(row['val_accuracy'], 2)}")

    def end(self, state: State, model: nn.Module) -> None:
        """A finished round; `model` carries its weights and masks. The rows of a reused stage are replayed."""
        for row in state.epochs if state.reused else ():
            self.epoch({**row, "reused": True})
        row = {**self.now, **state.row, "reused": state.reused}
        self.rounds.append(row)
        layers = list(metrics.per_layer(model))
        with files.writing(self.folder):
            self.tables.write("rounds.csv", row)
            for layer in layers:
                self.tables.write("layers.csv", {**self.now, **layer})
            self.board.round(row, layers, model)
        for warning in row["warnings"]:
            log.warning("round %d: %s", row["round"], warning)
        if row.get("losses"):
            self.console.say(without_layers(row))
        self._show_pruning(row, model)
        log.info("round %d: %s", row["round"], json.dumps(row))

    def _show_pruning(self, row: Row, model: nn.Module) -> None:
        """The masks themselves, where they are small enough to be read."""
        found = {item.name: item.mask.bool() for item in masks.masked(model)}
        if row["round"] > 0 and sum(mask.numel() for mask in found.values()) <= READABLE:
            self.console.masks(f"round {row['round']}: pruned in {row['prune_ms']:.2f} ms", found)

    def tell(self, key: str, facts: Any, text: str) -> None:
        """Facts for the summary under `key`, and the same for the eye."""
        self.note(**{key: facts})
        self.console.say(f"{text}\n")

    def cost(self, rows: list[Row]) -> None:
        """What each form of the network costs, rows of `prunelab.costs.card`."""
        self.tell("cost", rows, cost.table(rows))
        with files.writing(self.folder):
            self.board.cost(rows)

    def macs(self, target: float, reached: float) -> None:
        """Whether the compact network has as few multiply-adds as were asked for, as shares of the dense network's."""
        said = f"the compact network has {percent(reached)} of the dense network's multiply-adds"
        missed = f", more than schedule.macs={target:g}: what compaction could not remove, and why, is named above"
        self.tell("macs", {"target": target, "reached": reached}, said + (missed if reached > target else ""))

    def stop(self, round: int, least: float) -> None:
        """A round fell below the validation accuracy that was asked for: it is not the result."""
        accuracy = self.rounds[-1]["val_accuracy"]
        self.note(stopped={"round": round, "val_accuracy": accuracy, "least": least})
        self.console.say(
            f"round {round} falls to {percent(accuracy, 2)} validation accuracy, below {percent(least, 2)}: "
            f"round {round - 1} is the result\n"
        )

    def gates(self, cost: Mapping[str, float] | None) -> None:
        """What a model's gates save at run time; nothing for a model without gates."""
        if cost is not None:
            self.note(**cost)
            share, saved = (percent(cost[key]) for key in ("layers_executed", "time_saved"))
            self.console.say(f"gates: {share} of the layers are executed, which saves {saved} of the time\n")

    def finish(self, final: int) -> None:
        """The last words: summary, hparams, the table of rounds.

        Args:
            final: the round that is the result.
        """
        with files.writing(self.folder):
            self.board.finish(self.rounds, final)
        self._close()
        self.summary |= {
            "status": "completed",
            "seconds": time.perf_counter() - self.started,
            "dense": self.rounds[0],
            "final": self.rounds[final],
        }
        self._write_summary()
        self.console.finish(self.rounds, self.folder)

    @property
    def board(self) -> TensorBoard:
        """TensorBoard, opened when first needed: its import must not delay the first batch."""
        if self._board is None:
            from prunelab.tracking.tensorboard import TensorBoard

            # TensorBoard calls a run by its folder; that of a job is a number.
            name = composing.label(self.telling) if composing.in_sweep() else ""
            self._board = TensorBoard(self.folder / name, self.summary["config"], self.telling)
        return self._board

    def _close(self) -> None:
        with files.writing(self.folder):
            self.tables.close()
            if self._board is not None:
                self._board.close()

    def _write_summary(self) -> None:
        files.write_file(self.folder / "summary.json", json.dumps(self.summary, indent=2).encode())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
