"""The result of an experiment: its rounds, its network, its folder; a table in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelab.errors import optional
from prunelab.records import RoundRecord, columns, csv_columns
from prunelab.report.results_frame import NO_RESULTS
from prunelab.text import table
from prunelab.tracking.accuracy_figure import STYLES, dense_levels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import nn

SHOWN = ("round", "sparsity", "nonzero", "compression_ratio", "val_accuracy", "test_accuracy", "seconds")
HEADS = [name.replace("_", " ").replace("val ", "validation ") for name in SHOWN]


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What an experiment gives. `rounds, model, folder = result` works, too.

    Attributes:
        rounds: one record per round, 0 being the dense network.
        model: the final network, with zeros where it is pruned; the compact one with `compact=true`.
        folder: the run folder.
        problems: one line for each file that could not be made, and for a proof that failed; all else is there.
        baseline: the dense network that was trained as long as the pruned one; None if there is none.
    """

    rounds: list[RoundRecord]
    model: nn.Module
    folder: Path
    problems: list[str]
    baseline: RoundRecord | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.rounds, self.model, self.folder))

    def __repr__(self) -> str:
        return "\n".join([table(HEADS, self._cells()), str(self.folder), *self.problems])

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        head, *rows = (
            "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
            for tag, cells in (("th", HEADS), *(("td", cells) for cells in self._cells()))
        )
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        below = "<br>".join(map(html.escape, (str(self.folder), *self.problems)))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"

    def _cells(self) -> list[list[str]]:
        shown = [entry for entry in columns(RoundRecord) if entry.name in SHOWN]
        return [[format(getattr(row, entry.name), entry.format) for entry in shown] for row in self.rounds]

    def to_frame(self) -> pd.DataFrame:
        """Return the rounds as a DataFrame, one row per round; fractions, not percent.

        Raises:
            ImportError: pandas is not installed.
        """
        pandas: Any = optional("pandas", "Result.to_frame()")
        names = [name for name in csv_columns(RoundRecord) if name not in NO_RESULTS]
        return pandas.DataFrame([{name: getattr(row, name) for name in names} for row in self.rounds], columns=names)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw test accuracy over sparsity, one point per round; each dense network is a horizontal line.

        Args:
            ax: where to draw; by default a new figure.

        Raises:
            ImportError: matplotlib is not installed.
        """
        pyplot: Any = optional("matplotlib.pyplot", "Result.plot()")
        found: Axes = pyplot.subplots()[1] if ax is None else ax
        accuracy = [100 * row.test_accuracy for row in self.rounds]
        for (name, level), style in zip(dense_levels(self.rounds[0], self.baseline).items(), STYLES, strict=False):
            found.axhline(100 * level, color="grey", linestyle=style, label=name)
        found.plot([100 * row.sparsity for row in self.rounds], accuracy, marker="o", label="pruned")
        found.set(xlabel="sparsity (%)", ylabel="test accuracy (%)")
        found.legend()
        return found
