"""The record of what one form of a network costs; its JSON and its tables as text and Markdown are derived from it."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from prunelab.costs.latency import BATCHES, Interval, Latency
from prunelab.text import table as plain_table

WIDTH = 120  # of the tables' sentences on the console
EQUAL = Interval(1.0, 1.0, 1.0)
DEPENDS = 1.25  # ratio of two times of one form from which they are called different


def _count(title: str) -> Any:
    """A field that is a column of the tables, with that title."""
    return field(metadata={"title": title})


@dataclass(frozen=True)
class FormCost:
    """What one form of a network, such as `dense (torch)` or `compact (onnx)`, costs.

    Attributes:
        threads: of torch while it was timed.
        macs, macs_nonzero: multiply-adds of one example as in `Counts`, and those on nonzero weights.
        bytes, gzipped: of its files; without files, of its state as a safetensors file.
        peak_bytes: memory of a forward pass at batch 256; None if it is not known: see `why_no_peak`.
        latency: by batch size; batch sizes that were not timed are missing.
        why_no_faster: why it is not faster than the form `against`, one sentence, or None.
        runtime: what runs it, such as `torch`, `onnx`.
        against: the form that it is compared with, the dense network in the same runtime; None: it is that form.
        timed_in: the process in which it was timed, and the state of malloc there.
        default_malloc: latency by batch size with malloc as it is by default, from fewer turns.
    """

    form: str
    threads: int
    parameters: int = _count("parameters")
    nonzero: int = _count("nonzero")
    macs: int = _count("MACs")
    macs_nonzero: int = _count("nonzero MACs")
    bytes: int = _count("bytes of files")
    gzipped: int = _count("bytes gzipped")
    peak_bytes: int | None = _count("peak memory")
    why_no_peak: str | None = None
    latency: Mapping[int, Latency] = field(default_factory=dict)
    why_no_faster: str | None = None
    runtime: str = "torch"
    against: str | None = None
    timed_in: str | None = None
    default_malloc: Mapping[int, Latency] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain data; the latency at batch 1 as `latency_1_ms` and `speedup_1`, each [median, low, high].

        Those with malloc as it is by default are `latency_1_ms_default_malloc` and `speedup_1_default_malloc`.
        """
        measured = ("latency", "default_malloc")
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in measured}
        for times, end in ((self.latency, ""), (self.default_malloc, "_default_malloc")):
            for n, found in times.items():
                plain |= {f"latency_{n}_ms{end}": list(found.ms), f"speedup_{n}{end}": list(found.speedup)}
        return plain


def table(rows: Sequence[FormCost]) -> str:
    """Return plain tables, at most 120 characters wide: one line per form, then sentences that explain them."""
    sentences = (textwrap.fill(text, WIDTH, subsequent_indent="  ") for text in notes(rows))
    return "\n".join([*(f"{plain_table(head, body)}\n" for head, *body in _grids(rows)), *sentences])


def markdown(rows: Sequence[FormCost]) -> str:
    """Return the same tables and sentences as Markdown."""
    tables = ([head, ["---", *("---:" for _ in head[1:])], *body] for head, *body in _grids(rows))
    shown = ("\n".join(f"| {' | '.join(line)} |" for line in lines) for lines in tables)
    return "\n\n".join([*shown, *notes(rows)])


def _grids(rows: Sequence[FormCost]) -> Iterator[list[list[str]]]:
    """Yield the tables, one of counts and one of times, as cells: a head, then one line for each form."""
    names = ["", *(row.form for row in rows)]
    counted = [item for item in fields(FormCost) if "title" in item.metadata]
    columns = [[item.metadata["title"], *_counts([getattr(row, item.name) for row in rows])] for item in counted]
    yield list(map(list, zip(names, *columns, strict=True)))
    columns = []
    for n in _timed(rows):
        columns.append([f"ms at batch {n} (95%)", *(_interval(row.latency[n].ms, 3) for row in rows)])
        ratios = ("–" if row.against is None else _interval(row.latency[n].speedup, 2, "×") for row in rows)
        columns.append(["speed-up (95%)", *ratios])
    if columns:
        yield list(map(list, zip(names, *columns, strict=True)))


def _timed(rows: Sequence[FormCost]) -> list[int]:
    """Return the batch sizes at which all forms were timed."""
    return [n for n in BATCHES if n in rows[0].latency]


def notes(rows: Sequence[FormCost]) -> Iterator[str]:
    """Yield sentences that explain the table, and one sentence for each form that is no faster."""
    unknown: dict[str, list[str]] = {}
    for row in rows:
        if row.why_no_peak is not None:
            unknown.setdefault(row.why_no_peak, []).append(row.form)
    told = "".join(f" Not known for {' and '.join(names)}: {why}." for why, names in unknown.items())
    yield (
        "MACs: multiply-adds of one example. Bytes of files: what is shipped, without the masks. Peak memory: bytes of "
        f"tensors that live at once at batch 256.{told}"
    )
    if sizes := _timed(rows):
        late = "".join(f" Batch {n} takes too long to be timed." for n in BATCHES if n not in sizes)
        threads = rows[0].threads
        yield (
            f"Times: medians of interleaved turns after a warm-up, with 95% intervals; {threads} "
            f"thread{'s' * (threads > 1)}; {rows[0].timed_in}.{late}"
        )
        pairs = {row.form: [other.form for other in rows if other.against == row.form] for row in rows}
        compared = "; ".join(f"{' and '.join(others)} against {name}" for name, others in pairs.items() if others)
        yield f"Speed-up of pruning: time of the network it is compared with ÷ its own, turn by turn. {compared}."
        yield from _runtimes(rows)
        yield from _allocator(rows)
        yield from _scatter(rows)
    yield from (f"{row.form}: {row.why_no_faster}" for row in rows if row.why_no_faster)


def _runtimes(rows: Sequence[FormCost]) -> Iterator[str]:
    """Yield how fast other runtimes run the network that the first form is."""
    first = rows[0]
    for row in rows[1:]:
        if row.against is None and row.macs == first.macs:
            ratios = {n: _quotient(first.latency[n].ms, row.latency[n].ms) for n in _timed(rows)}
            found = (f"{_interval(ratio, 2, '×')} at batch {n}" for n, ratio in ratios.items())
            yield f"{row.form} is {' and '.join(found)} as fast as {first.form}: the runtime's part, not pruning's."


def _allocator(rows: Sequence[FormCost]) -> Iterator[str]:
    """Yield a note for each batch size at which malloc's default setting changes the times."""
    for n in _timed(rows):
        said = []
        for row in rows:
            ratio = _quotient(row.default_malloc[n].ms, row.latency[n].ms) if n in row.default_malloc else EQUAL
            surely = ratio.low > 1 or ratio.high < 1  # the intervals of the two times have nothing in common
            if surely and not 1 / DEPENDS < ratio.median < DEPENDS:
                there = f" (speed-up {row.default_malloc[n].speedup.median:.2f}×)" if row.against else ""
                said.append(f"{row.form} {ratio.median:.1f} times as long{there}")
        if rows[0].default_malloc and n not in rows[0].default_malloc:
            yield f"Batch {n} takes too long to be timed with malloc's default, too."
        if said:
            yield f"With malloc's default settings, batch {n} takes {', '.join(said)}."


def _scatter(rows: Sequence[FormCost]) -> Iterator[str]:
    """Yield a warning where the times of one form differ by more than a factor of 2."""
    found = [f"{row.form} at batch {n}" for row in rows for n, at in row.latency.items() if at.ms.high > 2 * at.ms.low]
    if found:
        yield f"Times scatter by more than a factor of 2, as on a busy machine: {', '.join(found)}."


def _quotient(one: Interval, other: Interval) -> Interval:
    """Return the ratio of two times, within what their intervals allow."""
    return Interval(one.median / other.median, one.low / other.high, one.high / other.low)


def _counts(values: Sequence[int | None]) -> list[str]:
    """All digits where the numbers are short, else the whole column in millions: 81.5 M, 1,814.0 M."""
    large = max((value for value in values if value is not None), default=0) >= 10**8
    return ["–" if n is None else f"{n / 10**6:,.1f} M" if large else f"{n:,}" for n in values]


def _interval(found: Interval, most: int, unit: str = "") -> str:
    """Three or four digits, with at most so many decimals: 0.123 (0.120–0.130), 12.35 (12.10–123.5)."""

    def digits(value: float) -> str:
        decimals = 3 if value < 10 else 2 if value < 100 else 1 if value < 1000 else 0
        return f"{value:.{min(decimals, most)}f}"

    return f"{digits(found.median)}{unit} ({digits(found.low)}–{digits(found.high)})"
