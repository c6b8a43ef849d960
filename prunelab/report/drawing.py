"""matplotlib's SVG made fit for a page: colours and fonts from its style sheet, no ids that collide, a description."""

from __future__ import annotations

import contextlib
import html
import io
import logging
import re
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its remarks on fonts are none of a user's business

INK, MUTED, GRID, GREY = "#010101", "#020202", "#030303", "#0a0a00"  # stand for CSS variables, see `_themed`
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid"}
MARKERS = "oos^DvPX*"  # by colour: curves can be told apart without it
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "axes.unicode_minus": True,
}


def colour(number: int) -> str:
    """The stand-in for a curve's colour; 0 is the grey of those without a name."""
    return f"#0a0a{number:02x}"


class Drawing:
    """A figure with one set of axes, and the SVG that comes of it.

    Args:
        name: unique on the page.
        title: what it shows.
    """

    def __init__(self, name: str, title: str) -> None:
        self.name, self.title = name, title
        self.figure = Figure(figsize=(5.0, 3.5), layout="constrained")
        FigureCanvasSVG(self.figure)
        self.axes: Axes = self.figure.add_subplot()
        self.described: list[str] = []

    def labels(self, x: str, y: str) -> None:
        """Names the axes, with units."""
        self.axes.set_xlabel(x)
        self.axes.set_ylabel(y)
        self.described.append(f"Horizontal: {x}. Vertical: {y}.")

    def svg(self) -> str:
        """The figure as inline SVG."""
        text = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": self.name}):
            none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            self.figure.savefig(text, format="svg", transparent=True, metadata=none)
        return _inline(text.getvalue(), self.name, self.title, " ".join(self.described))


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The look of all figures."""
    with mpl.rc_context(STYLE):
        yield


def _inline(svg: str, name: str, title: str, description: str) -> str:
    """The `<svg>` element alone, sized by the page, with title and description for those who cannot see it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    (view,) = re.findall(r'viewBox="([^"]*)"', svg)[:1]
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r'<g id="pl-([a-z]+)">', r'<g class="\1">', body)  # names given here; all others repeat
    body = re.sub(r'<g id="(?!pl-)[^"]*">', "<g>", body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    head = (
        f'<svg class="figure" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view}" role="img" aria-labelledby="{name}-t {name}-d">\n'
        f'<title id="{name}-t">{html.escape(title)}</title><desc id="{name}-d">{html.escape(description)}</desc>'
    )
    return head + _themed(body)


def _themed(svg: str) -> str:
    """Replaces stand-in colours by CSS variables, so that light, dark and print have their own."""
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    return re.sub(r"#0a0a([0-9a-f]{2})", lambda found: f"var(--s{int(found[1], 16)})", svg)
