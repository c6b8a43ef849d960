"""Figures as inline SVG: matplotlib's output with the page's colours and fonts, without ids, with a description."""

import io
import logging
import re
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # hides its warnings about fonts

INK, MUTED, GRID = "#010101", "#020202", "#030303"  # placeholders for CSS variables, see `_inline`
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid"}
MARKERS = "oos^DvPX*"  # one per colour, so that curves can be told apart without colours
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
    """Return the placeholder of a curve's colour; 0 is the grey of curves without a name."""
    return f"#0a0a{number:02x}"


@dataclass(frozen=True)
class Figure:
    """A finished figure; the template `macros.html.jinja` writes its `<svg>` element.

    Its name is unique on the page. `description` tells its axes and results to readers who cannot see it, `view` is the
    `viewBox`, and `body` is safe markup.
    """

    name: str
    title: str
    description: str
    view: str
    body: Markup


class Drawing:
    """A figure with one set of axes, and a name that is unique on the page."""

    def __init__(self, name: str, title: str) -> None:
        self.name, self.title = name, title
        self.figure = Canvas(figsize=(5.0, 3.5), layout="constrained")
        FigureCanvasSVG(self.figure)
        self.axes: Axes = self.figure.add_subplot()
        self.described: list[str] = []

    def labels(self, x: str, y: str) -> None:
        """Label the axes, with units."""
        self.axes.set_xlabel(x)
        self.axes.set_ylabel(y)
        self.described.append(f"Horizontal: {x}. Vertical: {y}.")

    def finish(self) -> Figure:
        """Return the figure as inline SVG."""
        text = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": self.name}):
            none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            self.figure.savefig(text, format="svg", transparent=True, metadata=none)
        view, body = _inline(text.getvalue())
        return Figure(self.name, self.title, " ".join(self.described), view, Markup(body))


def _inline(svg: str) -> tuple[str, str]:
    """Return the `viewBox` and the content of matplotlib's `<svg>` element, with the page's colours and fonts."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    (view,) = re.findall(r'viewBox="([^"]*)"', svg)[:1]
    body = svg[svg.index(">") + 1 : svg.rindex("</svg>")]
    # The ids that figures.py gives become classes; all others are removed, since they would occur twice on the page.
    body = re.sub(r'<g id="pl-([a-z]+)">', r'<g class="\1">', body)
    body = re.sub(r'<g id="(?!pl-)[^"]*">', "<g>", body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    for stand_in, variable in VARIABLES.items():  # which differ between light, dark and print
        body = body.replace(stand_in, f"var(--{variable})")
    return view, re.sub(r"#0a0a([0-9a-f]{2})", lambda found: f"var(--s{int(found[1], 16)})", body)
