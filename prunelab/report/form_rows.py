"""The cost of one form of a network, as the summary of a run has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Numbers = Mapping[str, float | None]  # one row of a CSV file by column; None where a cell is no finite number
FORM_TEXT = ("form", "runtime", "against", "timed_in", "why_no_faster", "why_no_peak")  # no numbers


@dataclass(frozen=True)
class Form:
    """The cost of one form of a network: dense, masked, compact, exported, …

    Args:
        name: the form.
        numbers: the columns of the cost table that were measured; the median where there is an interval too.
        why_no_faster: the reason why this form is not faster than the dense network, if it is not.
        against: the form that its speed-up is over, the dense network in the same runtime; "" if it is that form.
        timed_in: the process in which it was timed, and the state of malloc there.
    """

    name: str
    numbers: Numbers
    why_no_faster: str | None
    against: str = ""
    timed_in: str = ""


def form(row: Mapping[str, Any]) -> Form:
    """Return one row of the cost table."""
    medians = {key: cell[0] if isinstance(cell, list) and cell else cell for key, cell in row.items()}
    why, against, timed_in = (row.get(key) for key in ("why_no_faster", "against", "timed_in"))
    numbers = {key: number(cell) for key, cell in medians.items() if cell is not None and key not in FORM_TEXT}
    return Form(row["form"], numbers, None if why is None else str(why), str(against or ""), str(timed_in or ""))


def number(value: Any) -> float | None:
    """Return a finite number as float, and None for anything else, also for the NaN of a diverged run."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
