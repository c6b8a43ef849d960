"""What a run prints: the plan, a progress bar, the table of rounds, and where the results are."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import socket
import sys
import textwrap
import urllib.parse
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prunelab.records import PlannedRound, RoundRecord
from prunelab.text import percent, table, visible

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets, the bar is text
    from tqdm.auto import tqdm

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 120
FIRST_PORT = 6006
ROUNDS = (  # the columns of the table of rounds, with their widths
    *(("round", 5), ("sparsity", 8), ("nonzero", 11), ("compression", 11), ("theoretical speed-up", 20)),
    *(("val accuracy", 12), ("test accuracy", 13), ("seconds", 7), ("stage", 6)),
)
MEANING = (
    "Sparsity: zeros ÷ weights that may be pruned. Nonzero, compression: of all parameters, biases included. "
    "Theoretical speed-up: multiply-adds ÷ those on nonzero weights, not time. Accuracy: of the last epoch, one seed."
)
AS_LONG = "dense: not pruned, and trained for as many epochs as the result."
log = logging.getLogger(__name__)


class ScreenHandler(logging.Handler):
    """Writes log lines to stderr above a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one log record."""
        try:
            tqdm.write(visible(self.format(record)), file=sys.stderr)
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
    return table(["round", "amount", "sparsity", "prunable weights left", ""], map(row, plan))


def without_layers(row: RoundRecord) -> str:
    """Return what the validation loss is without each layer, the smallest first, and which layers were removed."""
    losses, gone = row.losses, row.layers_gone
    alone = sorted((loss, name) for name, loss in losses.items() if name and " " not in name)
    said = [f"round {row.round}: validation loss {losses['']:.4f}"]
    said += [f"without {', '.join(f'{name} {loss:.4f}' for loss, name in alone)}"] if alone else []
    said += [f"removed {', '.join(gone)}: {losses[' '.join(gone)]:.4f}" if gone else "no layer is removed"]
    return textwrap.fill("; ".join(said), WIDTH, subsequent_indent="  ")


def rounds_table(rounds: Iterable[RoundRecord], name: str = "") -> str:
    """Return the table of rounds, or of a network with a `name` that is no round; all parts of it are equally wide."""

    def row(r: RoundRecord) -> list[str]:
        size = [percent(r.sparsity), f"{r.nonzero:,}", f"{r.compression_ratio:.2f}×", f"{r.theoretical_speedup:.2f}×"]
        accuracy = [percent(r.val_accuracy, 2), percent(r.test_accuracy, 2)]
        number = name or str(r.round)
        return [number, *size, *accuracy, f"{r.seconds:.1f}", "reused" if r.reused else ""]

    return table([name for name, _ in ROUNDS], map(row, rounds), least=[width for _, width in ROUNDS])


def trained_longer(rounds: Sequence[RoundRecord], final: int) -> str:
    """Return a sentence if the pruned network was trained for more epochs than the dense one."""
    more = sum(row.epochs for row in rounds[1 : final + 1])
    epochs = f"{more} epoch{'s' * (more > 1)}"
    said = f"Round {final} was trained for {epochs} more than round 0; with baseline=true, so is a dense network."
    return said if more else ""


def where(folder: Path, *, means: bool = False) -> str:
    """Return three lines: where the results are, the command that shows them, and the page to open.

    The page shows accuracy over sparsity, in a sweep (`means`) the means over seeds, and without smoothing, which would
    falsify a curve of few points.
    """
    group, port = "mean_over_sparsity" if means else "over_sparsity", free_port()
    pinned = json.dumps([{"plugin": "scalars", "tag": f"{group}/test_accuracy"}], separators=(",", ":"))
    chosen = {"runFilter": "^summary/", "tagFilter": f"^{group}/(test|val)_accuracy$"} if means else {}
    query = urllib.parse.urlencode({"pinnedCards": pinned, **chosen, "smoothing": 0}, quote_via=urllib.parse.quote)
    return (
        f"results      {folder}\n"
        f"TensorBoard  tensorboard --logdir {shlex.quote(str(folder))} --port {port}\n"
        f"then open    http://localhost:{port}/?{query}#timeseries&_smoothingWeight=0"
    )


def free_port() -> int:
    """Return the first port from TensorBoard's own, 6006, on which nothing listens here."""
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) != 0:
                return port
    return FIRST_PORT


class Console:
    """The output of one run on the screen; `quiet`: only warnings, as in a sweep, which has a table of its own."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.bar = Bar(disable=True)
        self.batches = 0

    def plan(self, title: str, plan: Sequence[PlannedRound], epochs: int, batches: int) -> None:
        """Print the plan and start the progress bar of `epochs` of `batches` each."""
        self.say(f"{title}\n{plan_table(plan)}\n")
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

    def round(self, row: RoundRecord, *, first: bool = False, name: str = "") -> None:
        """Print a round that has ended as the next line of the table of rounds, after its head for the `first`."""
        self.say("\n".join(rounds_table([row], name).splitlines()[0 if first else -1 :]))

    def describe(self, text: str) -> None:
        """Show a text beside the bar."""
        self.bar.set_description_str(text)

    def advance(self) -> None:
        """Advance the bar by one batch."""
        self.bar.update()

    def skip_epoch(self) -> None:
        """Advance the bar by an epoch that is reused."""
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
                tqdm.write(visible(text).encode(encoding, "replace").decode(encoding), file=sys.stdout)
                sys.stdout.flush()

    def explain(self, note: str) -> None:
        """Print what the columns of the table of rounds mean, after its last row, and a note on it."""
        self.say("\n".join([*filter(None, [textwrap.fill(MEANING, WIDTH), note]), ""]))

    def finish(self, folder: Path) -> None:
        """Print where the results are."""
        self.close()
        self.say(where(folder))

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()
