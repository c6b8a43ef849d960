"""The cost card as text: a plain table for the console, a Markdown table for TensorBoard."""

import textwrap
from collections.abc import Sequence

from prunelab.costs.form_cost import FormCost, lines, notes
from prunelab.text import table as plain_table

WIDTH = 120


def table(rows: Sequence[FormCost]) -> str:
    """Return a plain table, at most 120 characters wide: one column per form, then sentences that explain it."""
    sentences = (textwrap.fill(text, WIDTH, subsequent_indent="  ") for text in notes(rows))
    return "\n".join([plain_table(["", *(row.form for row in rows)], lines(rows)), *sentences])


def markdown(rows: Sequence[FormCost]) -> str:
    """Return the same table and sentences as Markdown."""
    head = [["cost", *(row.form for row in rows)], ["---", *("---:" for _ in rows)]]
    grid = "\n".join(f"| {' | '.join(map(str.strip, line))} |" for line in [*head, *lines(rows)])
    return "\n\n".join([grid, *notes(rows)])
