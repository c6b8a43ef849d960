"""The record of what one form of a network costs; its JSON and the lines of its tables are derived from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from prunelab.costs.latency import BATCHES, Latency


def _count(title: str) -> Any:
    """A field that is a line of the tables, with that title."""
    return field(metadata={"title": title})


@dataclass(frozen=True)
class FormCost:
    """What one form of a network costs.

    Attributes:
        form: its name, such as `dense`, `compact`, `onnx`.
        threads: of torch while it was timed.
        parameters, nonzero: parameters of the network, and nonzero ones.
        macs, macs_nonzero: multiply-adds of one example on the weights of Conv, Linear, recurrent and attention layers,
            and those on nonzero weights.
        bytes, gzipped: of its files; without files, of its state as a safetensors file.
        peak_bytes: memory of a forward pass at batch 256; None if it is not known.
        why_no_peak: why `peak_bytes` is not known, or None.
        latency: by batch size; batch sizes that were not timed are missing.
        why_no_faster: why it is not faster than the first form, one sentence, or None.
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

    def as_json(self) -> dict[str, Any]:
        """Return plain data; the latency at batch 1 as `latency_1_ms` and `speedup_1`, each [median, low, high]."""
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "latency"}
        for n, found in self.latency.items():
            plain |= {f"latency_{n}_ms": list(found.ms), f"speedup_{n}": list(found.speedup)}
        return plain


def lines(rows: Sequence[FormCost]) -> Iterator[list[str]]:
    """Yield the lines of a table that has one column per form: a title, then one cell per form."""
    for item in fields(FormCost):
        if "title" in item.metadata:
            yield [item.metadata["title"], *_counts([getattr(row, item.name) for row in rows])]
    for n in timed(rows):
        found = [row.latency[n] for row in rows]
        yield [f"ms at batch {n}", *(_digits(latency.ms.median) for latency in found)]
        yield ["  95% interval", *(f"{_digits(latency.ms.low)}–{_digits(latency.ms.high)}" for latency in found)]
        yield ["  speed-up", *(f"{latency.speedup.median:.2f}×" for latency in found)]
        yield ["  95% interval", *(f"{_ratio(x.speedup.low)}–{_ratio(x.speedup.high)}" for x in found)]


def timed(rows: Sequence[FormCost]) -> list[int]:
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
    if sizes := timed(rows):
        first = rows[0]
        late = "".join(f" Batch {n} takes too long to be timed." for n in BATCHES if n not in sizes)
        yield (
            f"Times: medians of interleaved turns after a warm-up, with 95% intervals; {first.threads} "
            f"thread{'s' * (first.threads > 1)}. Speed-up: time of {first.form} ÷ time of the form, turn by turn.{late}"
        )
    yield from (f"{row.form}: {row.why_no_faster}" for row in rows if row.why_no_faster)


def _counts(values: Sequence[int | None]) -> list[str]:
    """All digits where the numbers are short, else the whole line in millions: 81.5 M, 1,814.0 M."""
    large = max((value for value in values if value is not None), default=0) >= 10**8
    return ["–" if n is None else f"{n / 10**6:,.1f} M" if large else f"{n:,}" for n in values]


def _ratio(value: float) -> str:
    """Two decimals while there is room: 1.07, 123.5, 1235."""
    return f"{value:.{2 if value < 100 else 1 if value < 1000 else 0}f}"


def _digits(ms: float) -> str:
    """Three or four digits: 0.123, 12.35, 123.5."""
    return f"{ms:.{3 if ms < 10 else 2 if ms < 100 else 1 if ms < 1000 else 0}f}"
