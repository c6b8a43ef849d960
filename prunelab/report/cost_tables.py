"""The tables of what each form of the networks costs, and its speed-up over the dense network in its runtime."""

import re
from collections.abc import Sequence

import pandas as pd

from prunelab.report.groups import Group
from prunelab.report.run_folders import number
from prunelab.report.tables import Table, count, milliseconds, times, words

COUNTED = ["parameters", "nonzero", "macs", "macs_nonzero", "bytes", "gzipped", "peak_bytes"]
TIMED = ["latency_1_ms", "speedup_1", "latency_256_ms", "speedup_256"]
SAID = ["why_no_faster", "against", "timed_in"]
NUMBERS = ["threads", *COUNTED, *TIMED]
SHARED = "all experiments"
PERCENT = re.compile(r"\d{1,3}(?=%)")


def _forms(groups: Sequence[Group]) -> pd.DataFrame:
    """Return one row per form of each run; of a number with an interval, the median."""
    rows = [
        {"group": group.label, "form": form["form"]}
        | {key: str(form.get(key) or "") for key in SAID}
        | {key: number(cell[0] if isinstance(cell := form.get(key), list) and cell else cell) for key in NUMBERS}
        for group in groups
        for run in group.runs
        for form in run.cost
    ]
    frame = pd.DataFrame(rows, columns=["group", "form", *SAID, *NUMBERS])
    return frame.astype(dict.fromkeys(NUMBERS, float))


def sizes(groups: Sequence[Group]) -> Table:
    """Return the parameters, operations and bytes of each form; a form that is equal in all groups has one row."""
    forms = _forms(groups).groupby(["group", "form"], sort=False)
    frame = forms[COUNTED].mean()
    frame.insert(0, "seeds", forms.size())
    frame = frame.reset_index()
    equal = frame.groupby(list(frame.columns[1:]), dropna=False)["group"].transform("size") == len(groups)
    if len(groups) > 1:
        frame.loc[equal, "group"] = SHARED
    columns = [
        words("group", "experiment"),
        words("form", "form"),
        count("seeds", "seeds"),
        count("parameters", "parameters"),
        count("nonzero", "nonzero"),
        count("macs", "MACs"),
        count("macs_nonzero", "nonzero MACs"),
        count("bytes", "bytes"),
        count("gzipped", "bytes gzipped"),
        count("peak_bytes", "peak memory (bytes)"),
    ]
    return Table("cost", "Cost of each form of the networks, mean over seeds", columns, frame.drop_duplicates())


def latencies(groups: Sequence[Group]) -> Table:
    """Return the latency and speed-up of each form that was timed, or that cannot be faster than the dense network.

    The table is empty if nothing was timed.
    """
    rows = []
    for (group, form), found in _forms(groups).groupby(["group", "form"], sort=False):
        timed = found[found["speedup_1"].notna()]
        why = _why(timed if len(timed) else found)
        if len(timed) or why:
            threads = " or ".join(f"{n:.0f}" for n in sorted(timed["threads"].dropna().unique()))
            said = {key: " or ".join(sorted(set(filter(None, timed[key])))) for key in ("against", "timed_in")}
            row = {"group": group, "form": form, "seeds": len(timed), "threads": threads, "why_no_faster": why, **said}
            rows.append({**row, **timed[TIMED].mean(), **timed[TIMED].sem().add_suffix("_error")})
    rows = rows if any(row["seeds"] for row in rows) else []
    measured = [field for key in TIMED for field in (key, f"{key}_error")]
    fields = ["group", "form", "seeds", "threads", *measured, "against", "why_no_faster", "timed_in"]
    columns = [
        words("group", "experiment"),
        words("form", "form"),
        count("seeds", "seeds timed"),
        milliseconds("latency_1_ms", "ms at batch size 1"),
        times("speedup_1", "speed-up"),
        milliseconds("latency_256_ms", "ms at batch size 256"),
        times("speedup_256", "speed-up"),
        words("against", "speed-up over"),
        words("why_no_faster", "why it is not faster"),
    ]
    title = "Latency of each form, and speed-up over the dense network in the same runtime"
    facts = ["mean ± standard error over seeds"]
    if threads := ", ".join(dict.fromkeys(row["threads"] for row in rows if row["threads"])):
        facts.append(f"threads: {threads}")
    facts += dict.fromkeys(f"timed {row['timed_in']}" for row in rows if row["timed_in"])
    return Table("times", "; ".join([title, *facts]), columns, pd.DataFrame(rows, columns=fields))


def _why(rows: pd.DataFrame) -> str | None:
    """Return the most frequent reason why a form is not faster, if more than half of its seeds have one; else None.

    Reasons that differ only in a percentage count as one, with the range of the percentages.
    """
    reasons = list(filter(None, rows["why_no_faster"]))
    if 2 * len(reasons) <= len(rows):
        return None
    kinds: dict[str, list[str]] = {}
    for text in reasons:
        kinds.setdefault(PERCENT.sub("", text), []).append(text)
    alike = max(kinds.values(), key=len)
    shares = sorted({int(n) for text in alike for n in PERCENT.findall(text)})
    between = "–".join(map(str, dict.fromkeys((shares[0], shares[-1])))) if shares else ""
    some = f" (in {len(alike)} of {len(rows)} seeds)" if len(alike) < len(rows) else ""
    return PERCENT.sub(between, alike[0]) + some
