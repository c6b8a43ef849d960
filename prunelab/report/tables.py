"""A table of results: a DataFrame for CSV, and columns of text for HTML and Markdown."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from prunelab.text import percent

Row = Mapping[str, object]  # one row of the DataFrame; None where a value is missing
AT_MOST = 60  # rows of a table on the page and in Markdown; the CSV has all of them


@dataclass(frozen=True)
class Column:
    """A column to read.

    Args:
        head: its heading.
        show: returns the text of its cell in a row.
        words: whether it holds text and not numbers. Such columns at the beginning of a table name its rows.
        heat: the key of a fraction in [0, 1] that shades the cell; empty if cells are not shaded.
    """

    head: str
    show: Callable[[Row], str]
    words: bool = False
    heat: str = ""

    def shade(self, row: Row) -> float | None:
        """Return how dark the cell is, in [0, 1]; None if it is not shaded."""
        value = _number(row, self.heat)
        return None if value is None else min(max(value, 0.0), 1.0)


@dataclass(frozen=True)
class Table:
    """Results with unrounded values (`frame`) and a form to read (`columns`).

    Args:
        name: the CSV file is `report_<name>.csv`.
        title: what the rows are.
        columns: the columns to read; none for a table that is a CSV file only.
        frame: the columns of the CSV file.
    """

    name: str
    title: str
    columns: Sequence[Column]
    frame: pd.DataFrame

    @property
    def rows(self) -> list[Row]:
        """The first `AT_MOST` rows."""
        shown = self.frame.head(AT_MOST)
        return list(shown.astype(object).where(shown.notna(), None).to_dict("records"))

    @property
    def more(self) -> int:
        """How many rows `rows` leaves out."""
        return max(len(self.frame) - AT_MOST, 0)

    @property
    def measured(self) -> bool:
        """Whether there is anything but dashes beside the names of the rows and the numbers of seeds."""
        rest = [c for c in itertools.dropwhile(lambda c: c.words, self.columns) if not c.head.startswith("seeds")]
        return not rest or any(self._tells(column) for column in rest)

    def without_dashes(self) -> Table:
        """Return the table without columns that have nothing but dashes; the CSV file keeps them."""
        return replace(self, columns=[c for n, c in enumerate(self.columns) if n == 0 or self._tells(c)])

    def _tells(self, column: Column) -> bool:
        return any(column.show(row) not in ("–", "") for row in self.rows)

    def csv(self) -> str:
        """Return all rows as CSV with unrounded values."""
        return self.frame.map(_no_formula).rename(columns=_no_formula).to_csv(index=False)

    def markdown(self) -> str:
        """Return the title and the rows as a Markdown table."""
        lines = [[plain(column.head) for column in self.columns], ["---" if c.words else "---:" for c in self.columns]]
        lines += [[plain(column.show(row)) for column in self.columns] for row in self.rows]
        more = f"\n{self.more:,} more rows are in the CSV file.\n" if self.more else ""
        return f"### {plain(self.title)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n{more}"


def plain(text: str) -> str:
    """Escape text for one line or table cell of Markdown."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _no_formula(value: object) -> object:
    """Put an apostrophe before text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r\n＝＋－＠") else value


def _number(row: Row, key: str) -> float | None:
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) else None


def words(key: str, head: str) -> Column:
    """Return a column of text."""
    return Column(head, lambda row: str(row.get(key) or ""), words=True)


def count(key: str, head: str) -> Column:
    """Return a column of whole numbers."""
    return _numeric(key, head, lambda value, error: f"{value:,.0f}")


def share(key: str, head: str, digits: int = 1, heat: str = "") -> Column:
    """Return a column of fractions, shown in percent, ± the standard error in `<key>_error` if there is one."""

    def show(value: float, error: float) -> str:
        return percent(value, digits) + (f" ± {percent(error, digits)}" if round(100 * error, digits) else "")

    return _numeric(key, head, show, heat)


def times(key: str, head: str) -> Column:
    """Return a column of ratios, ± the standard error in `<key>_error` if there is one."""
    return _numeric(key, head, lambda value, error: f"{value:.2f}×{_plus_minus(error, 2)}")


def milliseconds(key: str, head: str) -> Column:
    """Return a column of times in ms, ± the standard error in `<key>_error` if there is one."""

    def show(value: float, error: float) -> str:
        digits = 0 if value >= 100 else 3
        return f"{value:,.{digits}f}{_plus_minus(error, digits)}"

    return _numeric(key, head, show)


def _numeric(key: str, head: str, show: Callable[[float, float], str], heat: str = "") -> Column:
    """Return a column of numbers that shows a dash where there is none."""

    def cell(row: Row) -> str:
        value = _number(row, key)
        return "–" if value is None else show(value, _number(row, f"{key}_error") or 0.0)

    return Column(head, cell, heat=heat)


def _plus_minus(error: float, digits: int) -> str:
    return f" ± {error:,.{digits}f}" if round(error, digits) else ""
