"""Numbers and tables as text for a person to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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
    lines = [list(header), *(list(row) for row in rows)]
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
