"""A run folder: records to the console, CSV and TensorBoard, and the summary of how the run ended."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from prunelab.config.digest import digest
from prunelab.config.spec import Spec
from prunelab.costs import form_cost
from prunelab.costs.counts import per_tensor
from prunelab.costs.form_cost import FormCost
from prunelab.errors import ConfigError
from prunelab.pruning.masks import Masks
from prunelab.records import EpochRecord, PlannedRound, RoundRecord, plain
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.runtime.versions import versions
from prunelab.stages import files
from prunelab.stages.stage import State
from prunelab.text import percent, visible
from prunelab.tracking import run_lock
from prunelab.tracking.console import AS_LONG, Console, trained_longer, without_layers
from prunelab.tracking.csv_files import FILES, CsvFiles
from prunelab.tracking.origin import Origin
from prunelab.tracking.problems import Problems
from prunelab.training.callbacks.gate_savings import GateSavings

if TYPE_CHECKING:
    from prunelab.tracking.tensorboard import TensorBoard

READABLE = 64  # masks are printed if they have at most so many entries together
NETWORKS = ("model.safetensors", "model.*.safetensors", "model.json", "model.*.json", "model.pt2", "model.onnx")
REPLACED = ("masks.safetensors", *NETWORKS, "compact.safetensors", "compact.json")  # the user may have a model.py there
EXPLAINED = (ConfigError, OSError, ArithmeticError, InterruptedRun)  # whose messages say enough
log = logging.getLogger(__name__)


class RunFolder:
    """The folder of one run and everything that is written there. Files of an earlier run are replaced.

    It is created if it does not exist, and locked until the end of the context.

    Raises:
        ConfigError: if another process writes the folder, or it holds another experiment; see `run_lock.claim`.
        StorageError: if the folder cannot be written; names it and the free bytes.
    """

    def __init__(self, folder: Path, origin: Origin, spec: Spec) -> None:
        self.folder, self.origin = folder, origin
        self.console = Console(quiet=origin.quiet)
        self.rounds: list[RoundRecord] = []
        self.baseline: RoundRecord | None = None  # the dense network, trained as long as the pruned one
        self.problems = Problems()
        self.round, self.stage, self.final = 0, "", 0  # the present round and its stage; the round of the result
        self.started = time.perf_counter()
        self.summary: dict[str, Any] = {
            "status": "running",
            "command": origin.command,
            "seed": spec.seed,
            "config": dict(spec.plain),
            "digest": digest(spec.plain, origin.live),
            "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "versions": versions(),
        }
        if origin.live_names:
            self.summary["live"] = dict(origin.live_names)
        self.lock = run_lock.claim(folder, spec.plain, origin.live)
        self._place = folder.stat()
        again = (folder / "summary.json").exists()
        self.save()
        with files.writing(folder):
            board = folder / origin.name
            files.drop_link(*([board] if origin.name else []))  # a link to the folder itself may be the user's
            old = [*(found for name in REPLACED for found in folder.glob(name)), *board.glob("events.out.tfevents.*")]
            for path in (*(folder / name for name in FILES.values()), *(old if again else ())):
                path.unlink(missing_ok=True)
            self.tables = CsvFiles(folder, self.summary["digest"], origin.choices(spec))
        self._board: TensorBoard | None = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.console.close()
        try:
            if error is not None and self.summary["status"] != "completed":
                stopped = isinstance(error, (InterruptedRun, KeyboardInterrupt))
                said = str(error) if isinstance(error, EXPLAINED) else repr(error)
                self.summary |= {"status": "interrupted" if stopped else "failed", "error": said}
                log.info("%s: %s", self.summary["status"], self.summary["error"], exc_info=error)
                with contextlib.suppress(files.StorageError):  # the first error is the one to report
                    self.save()
            with contextlib.nullcontext() if error is None else contextlib.suppress(files.StorageError):
                self._close()
        finally:
            self.lock.release()

    def note(self, **facts: Any) -> None:
        """Add facts to the summary."""
        self.summary |= facts

    def plan(self, plan: Sequence[PlannedRound], epochs: int, batches: int) -> None:
        """Show the plan, and start the progress bar of `epochs` of `batches` each."""
        self.note(plan=[plain(round) for round in plan])
        self.save()
        strategy = visible(str(self.summary["config"]["strategy"]["name"]), keep="")
        rounds = f"{len(plan)} round{'s' * (len(plan) > 1)}"
        self.console.plan(f"plan: strategy {strategy}, {rounds} after dense training", plan, epochs, batches)

    def begin(self, round: int, stage: str) -> None:
        """Begin a round; the following records get its number and the name of its stage."""
        self.round, self.stage = round, stage
        self.console.describe("dense" if round == 0 else f"round {round}")

    def epoch(self, row: EpochRecord) -> None:
        """Write one epoch of the present round."""
        row = replace(row, round=self.round, stage=self.stage)
        with files.writing(self.folder):
            self.tables.write(row)
            self.board.epoch(row)
        if row.reused:
            self.console.skip_epoch()
        self.console.describe(f"round {row.round}, validation {percent(row.val_accuracy, 2)}")

    def end(self, state: State, masks: Masks) -> None:
        """Write a finished round, and the epochs of a reused stage. The model and its masks are in its state."""
        for epoch in state.epochs if state.reused else ():
            self.epoch(replace(epoch, reused=True))
        row = replace(state.row, round=self.round, stage=self.stage, reused=state.reused)
        self.rounds.append(row)
        layers = list(per_tensor(masks, self.round))
        with files.writing(self.folder):
            self.tables.write(row)
            for layer in layers:
                self.tables.write(layer)
            self.board.round(row, layers, masks)
        self.console.round(row, first=len(self.rounds) == 1)
        for warning in row.warnings:
            log.warning("round %d: %s", row.round, warning)
        if row.losses:
            self.console.say(without_layers(row))
        found = {item.name: item.kept for item in masks}
        if row.round > 0 and sum(kept.numel() for kept in found.values()) <= READABLE:
            self.console.masks(f"round {row.round}: pruned in {row.prune_ms:.2f} ms", found)
        log.info("round %d: %s", row.round, json.dumps(plain(row)))

    def longer(self, row: RoundRecord) -> None:
        """Write the dense network that was trained as long as the pruned one; its row stands below the rounds."""
        self.baseline = row
        self.note(baseline=plain(row))
        self.console.round(row, name="dense")
        log.info("dense, trained as long: %s", json.dumps(plain(row)))

    def tell(self, key: str, facts: Any, text: str) -> None:
        """Write facts into the summary under `key`, and print them as text."""
        self.note(**{key: facts})
        self.console.say(f"{text}\n")

    def cost(self, rows: list[FormCost]) -> None:
        """Write and print what each form of the network costs."""
        self.tell("cost", [row.as_json() for row in rows], form_cost.table(rows))
        with files.writing(self.folder):
            self.board.cost(rows)

    def macs(self, target: float, reached: float) -> None:
        """Report whether the compact network meets `schedule.macs`, both as fractions of the dense multiply-adds."""
        said = f"the compact network has {percent(reached)} of the dense network's multiply-adds"
        missed = f", more than schedule.macs={target:g}: what compaction could not remove, and why, is named above"
        self.tell("macs", {"target": target, "reached": reached}, said + (missed if reached > target else ""))

    def stop(self, round: int, least: float) -> None:
        """Report that a round's validation accuracy is below the least one allowed, so it is not the result."""
        accuracy = self.rounds[-1].val_accuracy
        self.note(stopped={"round": round, "val_accuracy": accuracy, "least": least})
        self.console.say(
            f"round {round} falls to {percent(accuracy, 2)} validation accuracy, below {percent(least, 2)}: "
            f"round {round - 1} is the result\n"
        )

    def gates(self, savings: GateSavings | None) -> None:
        """Write what a model's gates save at run time; nothing for a model without gates."""
        if savings is not None:
            self.note(layers_executed=savings.layers_executed, time_saved=savings.time_saved)
            share, saved = percent(savings.layers_executed), percent(savings.time_saved)
            self.console.say(f"gates: {share} of the layers are executed, which saves {saved} of the time\n")

    def conclude(self, final: int) -> None:
        """Write the result into the summary; `final` is its round. Files and proof are still to come."""
        self.final = final
        rewound = self.summary["config"]["rewind"] is not None
        longer = "" if rewound else trained_longer(self.rounds, final)
        self.console.explain(AS_LONG if self.baseline else longer)
        self.note(dense=plain(self.rounds[0]), final=plain(self.rounds[final]))
        self.save()

    def finish(self) -> None:
        """Complete the summary and TensorBoard, and print where they are."""
        with self.problems.part("TensorBoard"), files.writing(self.folder):
            self.board.finish(self.rounds, self.final, self.baseline, picture=not self.origin.quiet)
        with self.problems.part("tables"):
            self._close()
        self.summary |= {
            "status": "failed" if self.problems.decisive else "completed",
            "seconds": time.perf_counter() - self.started,
            "problems": self.problems.lines,
        }
        if self.problems.decisive:
            self.note(error=self.problems.decisive)
        self.save()
        self.console.finish(self.folder)

    @property
    def board(self) -> TensorBoard:
        """TensorBoard, imported when first needed, since its import would delay the first batch."""
        if self._board is None:
            from prunelab.tracking.tensorboard import TensorBoard

            self._board = TensorBoard(self.folder / self.origin.name, self.summary["config"], self.origin.telling)
        return self._board

    def _close(self) -> None:
        with files.writing(self.folder):
            self.tables.close()
            if self._board is not None:
                self._board.close()

    def save(self) -> None:
        """Write the summary; raise StorageError if the folder is another one by now, in which others may write."""
        with files.writing(self.folder):
            if not os.path.samestat(self._place, self.folder.stat()):
                raise OSError("has been moved or replaced during the run")
        files.write_file(self.folder / "summary.json", json.dumps(self.summary, indent=2).encode())
