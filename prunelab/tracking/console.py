"""What a person sees: the plan, a bar, the table of rounds, and where the results are. No torch here."""

from __future__ import annotations

import json
import logging
import sys
import textwrap
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

Row = Mapping[str, Any]
WIDTH = 120


class ScreenHandler(logging.Handler):
    """Log lines on stderr, printed above a running bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        tqdm.write(self.format(record), file=sys.stderr)


class Tensorlike(Protocol):
    """A mask, as far as it is printed here."""

    def tolist(self) -> list[Any]:
        """The mask as nested lists."""
        ...


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A plain table: the first `left` columns to the left, the others to the right; empty columns are left out."""
    lines = [list(header), *(list(row) for row in rows)]
    used = [i for i in range(len(header)) if any(line[i] for line in lines)]
    lines = [[line[i] for i in used] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(used))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    rule = "  ".join("─" * width for width in widths)
    return "\n".join([line(lines[0]), rule, *map(line, lines[1:])])


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction for the eye: 0.672 → 67.2%; more digits where 99.97% would read as 100.0%."""
    if fraction is None:
        return "–"
    while round(100 * fraction, digits) == 100 and fraction < 1 and digits < 6:
        digits += 1
    return f"{100 * fraction:.{digits}f}%"


def plan_table(plan: Iterable[Row]) -> str:
    """The plan: rows with `round`, `amount`, `sparsity`, `left` and `exact`: ≈ or – where the weights will decide.

    Rounds that go by multiply-adds have `macs`, the share of the dense network's.
    """
    plan = list(plan)
    if any(r.get("macs") for r in plan):
        rows = ([str(r["round"]), f"at most {percent(r['macs'])}"] for r in plan)
        return table(["round", "MACs of the compact network"], rows)

    def row(r: Row) -> list[str]:
        if r["amount"] is None and not r["exact"]:
            return [str(r["round"]), "–", "–", "as the weights say"]
        about = "" if r["exact"] else "≈ "
        return [str(r["round"]), percent(r["amount"]), about + percent(r["sparsity"]), f"{about}{r['left']:,}"]

    return table(["round", "amount", "sparsity", "weights left"], map(row, plan))


def without_layers(row: Row) -> str:
    """What each layer is worth, the least first, and what went: a round's `losses`, by the layers that are left out."""
    losses, gone = row["losses"], row["layers_gone"]
    alone = sorted((loss, name) for name, loss in losses.items() if name and " " not in name)
    said = [f"round {row['round']}: validation loss {losses['']:.4f}"]
    said += [f"without {', '.join(f'{name} {loss:.4f}' for loss, name in alone)}"] if alone else []
    said += [f"removed {', '.join(gone)}: {losses[' '.join(gone)]:.4f}" if gone else "no layer is removed"]
    return textwrap.fill("; ".join(said), WIDTH, subsequent_indent="  ")


def rounds_table(rounds: Iterable[Row]) -> str:
    """The table at the end of a run."""
    header = ["round", "sparsity", "nonzero", "compression", "val accuracy", "test accuracy", "seconds", ""]
    rows = [
        [
            str(r["round"]),
            percent(r["sparsity"]),
            f"{r['nonzero']:,}",
            f"{r['compression_ratio']:.2f}×",
            percent(r["val_accuracy"], 2),
            percent(r["test_accuracy"], 2),
            f"{r['seconds']:.1f}",
            "reused" if r["reused"] else "",
        ]
        for r in rounds
    ]
    return table(header, rows)


def where(folder: Path) -> str:
    """Three lines: where the results are, the command that shows them, and the page to open.

    Without smoothing, which falsifies a curve of few points, and with the chart that matters most pinned to the top.
    """
    pinned = json.dumps([{"plugin": "scalars", "tag": "over_sparsity/test_accuracy"}], separators=(",", ":"))
    return (
        f"results      {folder}\n"
        f"TensorBoard  tensorboard --logdir {folder}\n"
        f"then open    http://localhost:6006/?pinnedCards={urllib.parse.quote(pinned)}&smoothing=0#timeseries"
    )


class Console:
    """The screen of one run. In a sweep only warnings are shown: the sweep has a table of its own."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.bar: tqdm | None = None

    def plan(self, plan: Sequence[Row], epochs: int, batches: int) -> None:
        """Prints the plan and starts the bar.

        Args:
            epochs: of the whole run.
            batches: in each epoch.
        """
        self.say(f"{plan_table(plan)}\n")
        self.batches = batches
        self.bar = tqdm(
            total=epochs * batches,
            unit=" batches",
            disable=True if self.quiet else None,
            leave=False,
            bar_format="{desc:<28}{percentage:3.0f}% {bar} {elapsed} < {remaining}",
        )

    def describe(self, text: str) -> None:
        """What the bar is about at the moment."""
        if self.bar is not None:
            self.bar.set_description_str(text)

    def advance(self) -> None:
        """One batch more."""
        if self.bar is not None:
            self.bar.update()

    def skip_epoch(self) -> None:
        """One epoch that needed no training: the bar is that much nearer to its end."""
        if self.bar is not None:
            self.bar.update(self.batches)

    def masks(self, text: str, masks: Mapping[str, Tensorlike]) -> None:
        """Prints masks that are small enough to be read."""
        body = "\n".join(f"  {name}_mask = {_short(mask.tolist())}" for name, mask in masks.items())
        self.say(f"{text}\n{body}\n")

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        if not self.quiet:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def finish(self, rounds: Iterable[Row], folder: Path) -> None:
        """Prints the table of rounds and where the results are."""
        self.close()
        self.say(f"{rounds_table(rounds)}\n\n{where(folder)}")

    def close(self) -> None:
        """Ends the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _short(values: Any) -> str:
    return str(values).replace("True", "1").replace("False", "0")
