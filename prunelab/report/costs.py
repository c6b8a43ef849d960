"""What each form of the networks costs and how fast it is, over seeds, and why some are no faster."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from prunelab.report import tables
from prunelab.report.groups import Group
from prunelab.report.jobs import mean_and_error
from prunelab.report.reading import Row
from prunelab.report.tables import Table

COUNTED = ("parameters", "nonzero", "macs", "macs_nonzero", "bytes", "gzipped", "peak_bytes")
TIMED = ("latency_1_ms", "speedup_1", "latency_256_ms", "speedup_256")
SHARED = "all experiments"
PERCENT = re.compile(r"\d{1,3}(?=%)")


def sizes(groups: Sequence[Group]) -> Table:
    """A row a group and form; a form that is the same in all groups, as the dense network may be, stands once."""
    rows = [
        {"group": group.label, "form": form, "seeds": len(found), **_means(found, COUNTED)}
        for group in groups
        for form, found in _forms(group)
    ]
    columns = [
        tables.words("group", "experiment"),
        tables.words("form", "form"),
        tables.count("seeds", "seeds n"),
        tables.count("parameters", "parameters"),
        tables.count("nonzero", "nonzero"),
        tables.count("macs", "MACs"),
        tables.count("macs_nonzero", "nonzero MACs"),
        tables.count("bytes", "bytes"),
        tables.count("gzipped", "bytes gzipped"),
        tables.count("peak_bytes", "peak memory"),
    ]
    title = "What each form of the networks costs, mean over seeds"
    return Table("cost", title, columns, _once(rows, len(groups)), ["group", "form", "seeds", *COUNTED])


def times(groups: Sequence[Group]) -> Table:
    """A row a group and form that was timed, or that needs no timing to be no faster."""
    rows: list[Row] = []
    for group in groups:
        for form, found in _forms(group):
            timed = [row for row in found if "speedup_1" in row]
            why = _why(timed or found)
            if timed or why:
                names = {"group": group.label, "form": form, "seeds": len(timed), "threads": _threads(timed)}
                rows.append({**names, **_means(timed, TIMED), **_errors(timed, TIMED), "why_no_faster": why})
    columns = [
        tables.words("group", "experiment"),
        tables.words("form", "form"),
        tables.count("seeds", "seeds timed"),
        tables.milliseconds("latency_1_ms", "ms at batch 1"),
        tables.times("speedup_1", "speed-up"),
        tables.milliseconds("latency_256_ms", "ms at batch 256"),
        tables.times("speedup_256", "speed-up"),
        tables.words("why_no_faster", "why no faster"),
    ]
    title = "How fast each form is against the dense network, mean ± standard error over seeds"
    threads = dict.fromkeys(row["threads"] for row in rows if row["threads"])
    if threads:
        title += f"; threads: {', '.join(threads)}"
    measured = [field for key in TIMED for field in (key, f"{key}_error")]
    return Table("times", title, columns, rows, ["group", "form", "seeds", "threads", *measured, "why_no_faster"])


def _threads(rows: Sequence[Row]) -> str:
    """The number that the seeds were timed with, or, where they differ, all of them."""
    return " or ".join(f"{n:.0f}" for n in sorted({row["threads"] for row in rows if row.get("threads")}))


def _why(rows: Sequence[Row]) -> str | None:
    """The sentence that most seeds have in common, if most have one at all; the others may well be faster.

    Sentences that differ only in their percentage are one.
    """
    said = [row["why_no_faster"] for row in rows if row.get("why_no_faster")]
    if 2 * len(said) <= len(rows):
        return None
    kinds: dict[str, list[str]] = {}
    for text in said:
        kinds.setdefault(PERCENT.sub("", text), []).append(text)
    alike = max(kinds.values(), key=len)
    shares = sorted({int(n) for text in alike for n in PERCENT.findall(text)})
    between = "–".join(map(str, dict.fromkeys((shares[0], shares[-1])))) if shares else ""
    some = f" (in {len(alike)} of {len(rows)} seeds)" if len(alike) < len(rows) else ""
    return PERCENT.sub(between, alike[0]) + some


def _forms(group: Group) -> Iterator[tuple[str, list[Row]]]:
    """The forms that a group's runs have, in their order, each with a row a seed."""
    found: dict[str, list[Row]] = {}
    for row in (row for run in group.runs for row in run.cost):
        found.setdefault(row["form"], []).append(row)
    yield from found.items()


def _means(rows: Sequence[Row], keys: Collection[str]) -> Row:
    known = _known(rows, keys)
    return {key: mean_and_error(values)[0] if values else None for key, values in known.items()}


def _errors(rows: Sequence[Row], keys: Collection[str]) -> Row:
    """Standard errors of the means; None where one seed says nothing about others."""
    known = _known(rows, keys)
    return {f"{key}_error": mean_and_error(values)[1] if len(values) > 1 else None for key, values in known.items()}


def _known(rows: Sequence[Row], keys: Collection[str]) -> dict[str, list[float]]:
    """The values of each key, where there are any."""
    return {key: [row[key] for row in rows if row.get(key) is not None] for key in keys}


def _once(rows: list[Row], groups: int) -> list[Row]:
    """Of rows that all groups have alike only the first, under a name for all."""
    alike, kept = Counter(map(_key, rows)), dict[tuple[object, ...], Row]()
    for row in rows:
        name = SHARED if alike[_key(row)] == groups > 1 else row["group"]
        kept.setdefault((name, *_key(row)), {**row, "group": name})
    return list(kept.values())


def _key(row: Row) -> tuple[object, ...]:
    return tuple(value for key, value in row.items() if key != "group")
