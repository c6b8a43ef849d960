"""One table, three forms: HTML and Markdown for the eye, CSV with plain fractions for a program."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prunelab.report.reading import Row
from prunelab.tracking.console import percent

Show = Callable[[Row], str]
Heat = Callable[[Row], float | None]


@dataclass(frozen=True)
class Column:
    """A column for the eye. The first ones of a table that hold `words` name its rows."""

    head: str
    show: Show
    words: bool = False


@dataclass(frozen=True)
class Table:
    """Rows with a form for the eye (`columns`) and one for programs (`fields`)."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    fields: Sequence[str]

    def csv(self) -> str:
        """Every field of every row, unrounded."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(self.fields)
        writer.writerows([_harmless(row.get(field)) for field in self.fields] for row in self.rows)
        return text.getvalue()

    def markdown(self) -> str:
        """A Markdown table under its title."""
        lines = [[plain(column.head) for column in self.columns], ["---" if c.words else "---:" for c in self.columns]]
        lines += [[plain(column.show(row)) for column in self.columns] for row in self.rows]
        return f"### {plain(self.title)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def html(self, heat: Sequence[Heat] = ()) -> str:
        """A table in a box of its own, which scrolls where the page must not.

        Args:
            heat: of the last columns, the fraction in [0, 1] that shades a cell.
        """
        plain = len(self.columns) - len(heat)
        shades = [None] * plain + list(heat)
        head = "".join(f'<th scope="col"{_left(column)}>{html.escape(column.head)}</th>' for column in self.columns)
        body = "\n".join(
            "<tr>" + "".join(map(_cell, range(len(shades)), self.columns, shades, [row] * len(shades))) + "</tr>"
            for row in self.rows
        )
        return (
            f'<p class="caption" id="t-{self.name}">{html.escape(self.title)}</p>\n'
            f'<div class="scroll" role="region" tabindex="0" aria-labelledby="t-{self.name}">\n'
            f'<table class="{self.name}" aria-labelledby="t-{self.name}">\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
        )


def _cell(number: int, column: Column, heat: Heat | None, row: Row) -> str:
    text = html.escape(column.show(row))
    if number == 0:
        return f'<th scope="row"{_left(column)}>{text}</th>'
    shade = heat(row) if heat else None
    style = "" if shade is None else f' class="heat" style="--v:{min(max(shade, 0.0), 1.0):.3f}"'
    return f"<td{_left(column) if column.words else style}>{text}</td>"


def _left(column: Column) -> str:
    return ' class="words"' if column.words else ""


def plain(text: str) -> str:
    """Text that cannot leave its line or cell in Markdown, nor become markup in it."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _harmless(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else "" if value is None else value


def words(key: str, head: str) -> Column:
    """A column of text."""
    return Column(head, lambda row: str(row.get(key) or ""), words=True)


def count(key: str, head: str) -> Column:
    """A column of whole numbers."""
    return Column(head, lambda row: "–" if row.get(key) is None else f"{row[key]:,.0f}")


def share(key: str, head: str, digits: int = 1) -> Column:
    """A column of fractions, shown as percent with the standard error where there is one."""
    return Column(head, lambda row: percent(row.get(key), digits) + _error(row.get(f"{key}_error"), digits))


def times(key: str, head: str) -> Column:
    """A column of ratios, with the standard error where there is one."""
    return Column(
        head, lambda row: "–" if row.get(key) is None else f"{row[key]:.2f}×{_plus_minus(row.get(f'{key}_error'), 2)}"
    )


def milliseconds(key: str, head: str) -> Column:
    """A column of times, with the standard error where there is one."""

    def show(row: Row) -> str:
        if row.get(key) is None:
            return "–"
        digits = 0 if row[key] >= 100 else 3
        return f"{row[key]:,.{digits}f}{_plus_minus(row.get(f'{key}_error'), digits)}"

    return Column(head, show)


def _plus_minus(error: float | None, digits: int) -> str:
    return f" ± {error:,.{digits}f}" if error and round(error, digits) else ""


def _error(error: float | None, digits: int) -> str:
    return f" ± {percent(error, digits)}" if error and round(100 * error, digits) else ""
