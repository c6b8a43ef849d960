"""What a run prints: the plan, a progress bar, the table of rounds, and where the results are."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import sys
import textwrap
import urllib.parse
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prunelab.records import PlannedRound, RoundRecord
from prunelab.text import percent, table

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets, the bar is text
    from tqdm.auto import tqdm

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 120
log = logging.getLogger(__name__)


class ScreenHandler(logging.Handler):
    """Writes log lines to stderr above a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one log record."""
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)  # as logging's own handlers do: it stops nobody


class Bar(tqdm):  # type: ignore[misc]
    """A progress bar without the thread that tqdm starts at the first bar and never ends."""

    monitor_interval = 0


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, whose streams are no terminals but show a bar."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def idle(plan: Sequence[PlannedRound]) -> list[PlannedRound]:
    """Return the rounds whose amount rounds to 0 units of every tensor."""
    before = [0.0, *(round.sparsity for round in plan)]
    return [r for r, left in zip(plan, before, strict=False) if r.amount is not None and r.sparsity == left is not None]


def plan_table(plan: Sequence[PlannedRound]) -> str:
    """Return the plan as a table; ≈ marks estimates."""
    if any(round.macs is not None for round in plan):
        rows = ([str(r.round), f"at most {percent(r.macs)}"] for r in plan)
        return table(["round", "MACs of the compact network"], rows)

    def row(r: PlannedRound) -> list[str]:
        if r.left is None:
            return [str(r.round), percent(r.amount), "–", "decided by the scores", ""]
        about = "" if r.exact else "≈ "
        said = "removes nothing" if r in nothing else ""
        return [str(r.round), percent(r.amount), about + percent(r.sparsity), f"{about}{r.left:,}", said]

    nothing = idle(plan)
    return table(["round", "amount", "sparsity", "weights left", ""], map(row, plan))


def without_layers(row: RoundRecord) -> str:
    """Return what the validation loss is without each layer, the smallest first, and which layers were removed."""
    losses, gone = row.losses, row.layers_gone
    alone = sorted((loss, name) for name, loss in losses.items() if name and " " not in name)
    said = [f"round {row.round}: validation loss {losses['']:.4f}"]
    said += [f"without {', '.join(f'{name} {loss:.4f}' for loss, name in alone)}"] if alone else []
    said += [f"removed {', '.join(gone)}: {losses[' '.join(gone)]:.4f}" if gone else "no layer is removed"]
    return textwrap.fill("; ".join(said), WIDTH, subsequent_indent="  ")


def rounds_table(rounds: Iterable[RoundRecord], baseline: RoundRecord | None = None) -> str:
    """Return the table at the end of a run; `baseline` is the dense network that was trained as long."""
    header = ["round", "sparsity", "nonzero", "compression", "val accuracy", "test accuracy", "seconds", ""]

    def row(r: RoundRecord) -> list[str]:
        size = [percent(r.sparsity), f"{r.nonzero:,}", f"{r.compression_ratio:.2f}×"]
        accuracy = [percent(r.val_accuracy, 2), percent(r.test_accuracy, 2)]
        name = str(r.round) if r is not baseline else "dense, trained as long"
        return [name, *size, *accuracy, f"{r.seconds:.1f}", "reused" if r.reused else ""]

    return table(header, map(row, [*rounds, *([baseline] if baseline else [])]))


def trained_longer(rounds: Sequence[RoundRecord], final: int) -> str:
    """Return a sentence if the pruned network was trained for more epochs than the dense one."""
    more = sum(row.epochs for row in rounds[1 : final + 1])
    epochs = f"{more} epoch{'s' * (more > 1)}"
    said = f"Round {final} was trained for {epochs} more than round 0; with baseline=true, so is a dense network."
    return said if more else ""


def where(folder: Path) -> str:
    """Return three lines: where the results are, the command that shows them, and the page to open.

    The page switches off smoothing, which would falsify a curve of few points, and pins the main chart to the top.
    """
    pinned = json.dumps([{"plugin": "scalars", "tag": "over_sparsity/test_accuracy"}], separators=(",", ":"))
    return (
        f"results      {folder}\n"
        f"TensorBoard  tensorboard --logdir {shlex.quote(str(folder))}\n"
        f"then open    http://localhost:6006/?pinnedCards={urllib.parse.quote(pinned)}&smoothing=0#timeseries"
    )


class Console:
    """The output of one run on the screen; `quiet`: only warnings, as in a sweep, which has a table of its own."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.bar: Bar | None = None
        self.batches = 0

    def plan(self, plan: Sequence[PlannedRound], epochs: int, batches: int) -> None:
        """Print the plan and start the progress bar of `epochs` of `batches` each."""
        self.say(f"{plan_table(plan)}\n")
        if rounds := ", ".join(f"{one.round} (amount={one.amount:g})" for one in idle(plan)):
            log.warning("round %s: removes nothing; the amount rounds to 0 units of every tensor", rounds)
        self.batches = batches
        self.bar = Bar(
            total=epochs * batches,
            unit=" batches",
            disable=True if self.quiet else False if in_notebook() else None,  # None: unless it is no terminal
            leave=False,
            bar_format="{desc:<28}{percentage:3.0f}% {bar} {elapsed} < {remaining}",
        )

    def describe(self, text: str) -> None:
        """Show a text beside the bar."""
        if self.bar is not None:
            self.bar.set_description_str(text)

    def advance(self) -> None:
        """Advance the bar by one batch."""
        if self.bar is not None:
            self.bar.update()

    def skip_epoch(self) -> None:
        """Advance the bar by an epoch that is reused."""
        if self.bar is not None:
            self.bar.update(self.batches)

    def masks(self, text: str, masks: Mapping[str, Tensor]) -> None:
        """Print masks that are small enough to be read."""
        body = "\n".join(f"  {name} mask = {mask.int().tolist()}" for name, mask in masks.items())
        self.say(f"{text}\n{body}\n")

    def say(self, text: str) -> None:
        """Print text above the bar."""
        if not self.quiet and sys.stdout is not None:
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more: the run goes on
                tqdm.write(text.encode(encoding, "replace").decode(encoding), file=sys.stdout)
                sys.stdout.flush()

    def finish(
        self, rounds: Iterable[RoundRecord], folder: Path, baseline: RoundRecord | None = None, note: str = ""
    ) -> None:
        """Print the table of rounds, a note on it, and where the results are."""
        self.close()
        self.say("\n\n".join(filter(None, [rounds_table(rounds, baseline), note, where(folder)])))

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
