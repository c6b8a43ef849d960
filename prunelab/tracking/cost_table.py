"""The cost card as text: plain tables for the console, Markdown tables for TensorBoard."""

import textwrap
from collections.abc import Sequence

from prunelab.costs.form_cost import FormCost, grids, notes
from prunelab.text import table as plain_table

WIDTH = 120


def table(rows: Sequence[FormCost]) -> str:
    """Return plain tables, at most 120 characters wide: one line per form, then sentences that explain them."""
    sentences = (textwrap.fill(text, WIDTH, subsequent_indent="  ") for text in notes(rows))
    return "\n".join([*(f"{plain_table(head, body)}\n" for head, *body in grids(rows)), *sentences])


def markdown(rows: Sequence[FormCost]) -> str:
    """Return the same tables and sentences as Markdown."""
    tables = ([head, ["---", *("---:" for _ in head[1:])], *body] for head, *body in grids(rows))
    shown = ("\n".join(f"| {' | '.join(line)} |" for line in lines) for lines in tables)
    return "\n\n".join([*shown, *notes(rows)])
