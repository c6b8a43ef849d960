"""The page: one HTML file with its style sheet and its figures in it; it needs no network and no script."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from prunelab.report.curves import Curve
from prunelab.report.mask_pictures import Picture
from prunelab.report.tables import Heat, Table

# The policy forbids what the page never does: scripts, and anything from the network.
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="prunelab.report">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
<p class="eyebrow">$eyebrow</p>
<h1>$title</h1>
<p>$compared</p>
<ul class="counts" aria-label="Runs">$counts</ul>
<p class="finding">$finding</p>
<nav aria-label="Sections">$contents</nav>
</header>
<main>
$sections
</main>
</body>
</html>
""")
SHAPES = {  # as matplotlib's markers of the same curves
    1: '<circle cx="17" cy="7" r="3.5"/>',
    2: '<path d="M13.8 3.8h6.4v6.4h-6.4z"/>',
    3: '<path d="M17 3l4 7.5h-8z"/>',
    4: '<path d="M17 2.5l4.5 4.5-4.5 4.5-4.5-4.5z"/>',
    5: '<path d="M17 11l4-7.5h-8z"/>',
    6: '<path d="M15.7 3h2.6v2.7H21v2.6h-2.7V11h-2.6V8.3H13V5.7h2.7z"/>',
    7: '<path d="M13.5 5.3l1.8-1.8L17 5.2l1.7-1.7 1.8 1.8L18.8 7l1.7 1.7-1.8 1.8L17 8.8l-1.7 1.7-1.8-1.8L15.2 7z"/>',
    8: '<path d="M17 2l1.3 3.6h3.8l-3 2.3 1.1 3.7-3.2-2.2-3.2 2.2 1.1-3.7-3-2.3h3.8z"/>',
}


def page(values: Mapping[str, str], counts: Mapping[str, int], sections: Sequence[tuple[str, str, str]]) -> str:
    """The whole file.

    Args:
        values: plain text for `title`, `eyebrow`, `compared` and `finding`.
        counts: how many runs of each status; `completed` is good news, of the others only 0 is.
        sections: anchor, heading as plain text, content as HTML.
    """
    chips = (
        f"<li{'' if status == 'completed' or not number else CLASS_BAD}><b>{number:,}</b> {html.escape(status)}</li>"
        for status, number in counts.items()
    )
    contents = (f'<a href="#{anchor}">{html.escape(heading)}</a>' for anchor, heading, _ in sections)
    bodies = (
        f'<section id="{anchor}" aria-labelledby="{anchor}-h">\n'
        f'<h2 id="{anchor}-h">{html.escape(heading)}</h2>\n{body}\n</section>'
        for anchor, heading, body in sections
    )
    return PAGE.substitute(
        {key: html.escape(value) for key, value in values.items()},
        style=Path(__file__).with_name("page.css").read_text(encoding="utf-8"),
        counts="".join(chips),
        contents=" ".join(contents),
        sections="\n".join(bodies),
    )


CLASS_BAD = ' class="bad"'


def legend(curves: Sequence[Curve], dense: int = 0, *, levels: bool = False) -> str:
    """The curves' names with their number of seeds; for the figures below it.

    Args:
        dense: how many dense networks are drawn.
        levels: whether what was never pruned is a level line there.
    """
    lines = [
        _entry(_line(curve.colour, "9 3 1.5 3" if levels and curve.flat else ""), curve.label, f"n = {curve.seeds}")
        for curve in curves
        if curve.colour
    ]
    grey = sum(not curve.colour for curve in curves)
    lines += [_entry(_line(0, "", shape=False), f"{grey} others, in the table", "")] if grey else []
    if dense:
        name = "dense network" if dense == 1 else "dense network of the curve of that colour"
        lines.append(_entry(_line(-1, "1.5 3", shape=False), name, ""))
    return f'<ul class="legend">{"".join(lines)}</ul>'


def _entry(swatch: str, name: str, more: str) -> str:
    return f"<li>{swatch}<span>{html.escape(name)}</span>{f'<small>{more}</small>' if more else ''}</li>"


def _line(number: int, dashes: str, *, shape: bool = True) -> str:
    colour = "var(--muted)" if number < 0 else f"var(--s{number})"
    mark = SHAPES[number] if shape and not dashes else ""
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<svg viewBox="0 0 34 14" aria-hidden="true" style="fill:{colour};stroke:{colour}">'
        f'<path d="M1 7h32" stroke-width="1.8"{dash}/>{mark}</svg>'
    )


def figures(drawn: Sequence[tuple[str, str]], beside: str = "") -> str:
    """Figures side by side where there is room: (caption, SVG); and HTML to stand beside them."""
    body = "\n".join(f"<figure><figcaption>{html.escape(text)}</figcaption>\n{svg}</figure>" for text, svg in drawn)
    return f'<div class="figures">\n{body}\n{f"<aside>{beside}</aside>" if beside else ""}</div>'


def masks(pictures: Sequence[Picture]) -> str:
    """The pictures of masks, small, side by side."""
    body = "\n".join(
        f"<figure><figcaption><b>{html.escape(p.group)}</b><br>{html.escape(p.tensor)}, {p.shape}: {p.kept:,} of "
        f"{p.size:,} kept{_dead(p)}</figcaption>{p.svg}</figure>"
        for p in pictures
    )
    return f'<div class="masks">\n{body}\n</div>'


def _dead(picture: Picture) -> str:
    what = "filter" if picture.shape.count("×") > 1 else "row"
    return f", {picture.dead} {what}{'s' * (picture.dead != 1)} empty" if picture.dead else ""


def cut(table: Table, rows: int, heat: Sequence[Heat] = ()) -> str:
    """A table of at most so many rows, and where the others are."""
    more = len(table.rows) - rows
    shown = Table(table.name, table.title, table.columns, table.rows[:rows], table.fields)
    return shown.html(heat) + (note(f"{more:,} more rows are in report_{table.name}.csv.") if more > 0 else "")


def note(text: str) -> str:
    """A remark in small print."""
    return f'<p class="note">{html.escape(text)}</p>'


def folded(summary: str, content: str) -> str:
    """Content that is shown when asked for."""
    return f"<details><summary>{html.escape(summary)}</summary>\n{content}\n</details>"


def commands(lines: Sequence[str]) -> str:
    """Commands to be typed again."""
    return f"<pre><code>{html.escape(chr(10).join(lines))}</code></pre>" if lines else ""


def facts(found: Mapping[str, Sequence[str]]) -> str:
    """Names and values."""
    body = "".join(
        f"<dt>{html.escape(key)}</dt>"
        + "".join(f"<dd>{html.escape(value)}</dd>" for value in values[:1])
        + "".join(f"<dt></dt><dd>{html.escape(value)}</dd>" for value in values[1:])
        for key, values in found.items()
    )
    return f"<dl>{body}</dl>"
