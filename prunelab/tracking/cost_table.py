"""The cost card for the eye: the forms side by side, on the screen and in Markdown, and why one is no faster."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prunelab.costs.latency import BATCHES
from prunelab.tracking.console import table as plain_table

Row = Mapping[str, Any]
WIDTH = 120
SIZES = {
    "parameters": "parameters",
    "nonzero": "nonzero",
    "macs": "MACs",
    "macs_nonzero": "nonzero MACs",
    "bytes": "bytes of files",
    "gzipped": "bytes gzipped",
    "peak_bytes": "peak memory",
}


def table(rows: Sequence[Row]) -> str:
    """What a person reads: a column a form, then what the words mean, and one sentence for each form that is no faster.

    Args:
        rows: of `prunelab.costs.card`.
    """
    sentences = (textwrap.fill(text, WIDTH, subsequent_indent="  ") for text in [*_notes(rows), *_sentences(rows)])
    return "\n".join([plain_table(["", *(row["form"] for row in rows)], _lines(rows)), *sentences])


def markdown(rows: Sequence[Row]) -> str:
    """The same for TensorBoard."""
    head = [["cost", *(row["form"] for row in rows)], ["---", *("---:" for _ in rows)]]
    grid = "\n".join(f"| {' | '.join(map(str.strip, line))} |" for line in [*head, *_lines(rows)])
    return "\n\n".join([grid, *_notes(rows), *_sentences(rows)])


def _lines(rows: Sequence[Row]) -> Iterator[list[str]]:
    for key, name in SIZES.items():
        yield [name, *_whole([row[key] for row in rows])]
    for n in _timed(rows):
        times = [row[f"latency_{n}_ms"] for row in rows]
        yield [f"ms at batch {n}", *(_digits(median) for median, _, _ in times)]
        yield ["  95% interval", *(f"{_digits(low)}–{_digits(high)}" for _, low, high in times)]
        ratios = [row[f"speedup_{n}"] for row in rows]
        yield ["  speed-up", *(f"{median:.2f}×" for median, _, _ in ratios)]
        yield ["  95% interval", *(f"{_ratio(low)}–{_ratio(high)}" for _, low, high in ratios)]


def _timed(rows: Sequence[Row]) -> list[int]:
    return [n for n in BATCHES if f"latency_{n}_ms" in rows[0]]


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    unknown: dict[str, list[str]] = {}
    for row in rows:
        if row["peak_bytes"] is None:
            unknown.setdefault(row["why_no_peak"], []).append(row["form"])
    told = "".join(f"; of {' and '.join(names)} not known: {why}" for why, names in unknown.items())
    yield f"MACs: multiply-adds of one example. Peak memory: bytes of tensors that live at once, at batch 256{told}."
    timed, first = _timed(rows), rows[0]
    if timed:
        late = "".join(f" Batch {n} takes too long to be timed." for n in BATCHES if n not in timed)
        yield (
            f"Times: medians of interleaved turns after a warm-up, with 95% intervals; {first['threads']} "
            f"thread{'s' * (first['threads'] > 1)}. Speed-up: {first['form']}'s time ÷ its own, turn by turn.{late}"
        )


def _sentences(rows: Sequence[Row]) -> Iterator[str]:
    return (f"{row['form']}: {row['why_no_faster']}" for row in rows if row["why_no_faster"])


def _whole(numbers: Sequence[int | None]) -> list[str]:
    """All digits where they can be read; else all of the row in millions: 81.5 M, 1,814.0 M."""
    large = max((number for number in numbers if number is not None), default=0) >= 10**8
    shown = (f"{number / 10**6:,.1f} M" if large else f"{number:,}" for number in numbers if number is not None)
    return ["–" if number is None else next(shown) for number in numbers]


def _ratio(value: float) -> str:
    """Two digits behind the point while there is room: 1.07, 123.5, 1235."""
    return f"{value:.{2 if value < 100 else 1 if value < 1000 else 0}f}"


def _digits(ms: float) -> str:
    """Three or four digits: 0.123, 12.35, 123.5."""
    return f"{ms:.{3 if ms < 10 else 2 if ms < 100 else 1 if ms < 1000 else 0}f}"
