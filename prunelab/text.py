"""Numbers and tables as text for a person to read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


def visible(text: str, keep: str = "\n\t") -> str:
    """Return a text whose control characters are written as escapes, such as `\\x1b`, so that a terminal obeys none.

    Names and messages may be a stranger's: these characters could overwrite lines, reverse the order of letters, or
    send commands to the terminal.

    Args:
        keep: control characters that stay; an empty text if it must be one line.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep or not _controls(c) else c.encode("unicode_escape").decode() for c in text)


def _controls(character: str) -> bool:
    """Return whether a character is invisible: control, format, surrogate, private use, unassigned or a line break."""
    kind = unicodedata.category(character)
    return kind.startswith("C") or kind in ("Zl", "Zp")


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1, least: Sequence[int] | None = None
) -> str:
    """Return a plain table; columns that are empty throughout are left out.

    Args:
        header: the columns' names.
        rows: of as many cells each.
        left: how many columns are aligned to the left; the others are aligned to the right.
        least: width of each column, at least, for a table that is printed row by row; no column is left out then.
    """
    lines = [[visible(cell, "") for cell in row] for row in (header, *rows)]
    used = [i for i in range(len(header)) if least or any(line[i] for line in lines)]
    lines = [[line[i] for i in used] for line in lines]
    widths = [max(*(len(line[i]) for line in lines), least[i] if least else 0) for i in range(len(used))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    rule = "  ".join("─" * width for width in widths).rstrip()
    return "\n".join([line(lines[0]), rule, *map(line, lines[1:])])


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as percent: 0.672 → 67.2%; more digits where 99.97% would read as 100.0%; None → –."""
    if fraction is None:
        return "–"
    while round(100 * fraction, digits) == 100 and fraction < 1 and digits < 6:
        digits += 1
    return f"{100 * fraction:.{digits}f}%"


def in_epochs(number: float) -> str:
    """Return a number of epochs: 1 epoch, 8 epochs."""
    return f"{number:.0f} epoch{'s' * (number != 1)}"


def dense_name(epochs: float | None, told: str) -> str:
    """Return the name of a dense network: `dense, 3 epochs (before pruning)`.

    Args:
        epochs: of its training; None if they are not known.
        told: what tells it from other dense networks.
    """
    return f"dense{'' if epochs is None else f', {in_epochs(epochs)}'} ({told})"
