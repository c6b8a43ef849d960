"""The figures of the report: accuracy over sparsity and compression ratio, the Pareto front, training curves."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from prunelab.report.curves import Baseline, Curve, Point
from prunelab.report.drawing import GRID, INK, MARKERS, MUTED, Drawing, Figure, colour
from prunelab.text import percent

ACCURACY = "Test accuracy, last epoch (%)"
UNNAMED = 60  # grey curves that are drawn at most, to limit the size of the page
EPOCHS = 400  # points that a training curve has at most
DOTS, DASHES = (1.5, 3.0), (6.0, 3.0)  # lengths of line and gap


class Level(NamedTuple):
    """A dense network as a horizontal line of a figure; colour 0 is the grey of one that several curves share."""

    line: Baseline
    colour: int
    dashes: tuple[float, float]


def levels(curves: Sequence[Curve], dense: Sequence[Baseline], longer: Sequence[Baseline]) -> list[Level]:
    """Return the dense networks of a panel's coloured curves: before pruning dotted, trained as long dashed."""
    shown = {curve.label: curve.colour for curve in curves if curve.colour}
    found = []
    for lines, (length, gap) in ((dense, DOTS), (longer, DASHES)):
        grey = 0
        for line in lines:
            colours = [shown[curve.label] for curve in line.curves if curve.label in shown]
            own = colours[0] if colours and len(lines) > 1 and len(line.curves) == 1 else 0
            grey += bool(colours) and not own
            found += [Level(line, own, (length if own else length * grey, gap))] if colours else []
    return found


def accuracy(curves: Sequence[Curve], dense: Sequence[Level], over: str) -> Figure:
    """Draw test accuracy over `sparsity` or `compression` ratio."""
    if over == "sparsity":
        drawing = Drawing(over, "Test accuracy over sparsity")
        drawing.labels("Sparsity of the prunable weights (%)", ACCURACY)
        axes, key, unit = drawing.axes, "sparsity", 100.0
    else:
        drawing = Drawing(over, "Test accuracy over compression ratio")
        drawing.labels("Compression ratio: all ÷ nonzero parameters (×, log scale)", ACCURACY)
        axes, key, unit = drawing.axes, "compression_ratio", 1.0
        _logarithmic(axes, [point.mean(key) or 1.0 for curve in curves for point in curve.points], "×")
    for line, number, dashes in dense:
        _level(axes, line.point, colour(number) if number else MUTED, (0, dashes), "dense")
        drawing.described.append(f"{line.name}: {percent(line.point.mean('test_accuracy'), 2)}.")
    for curve in _ordered(curves):
        if curve.flat:
            _level(axes, curve.last, colour(curve.colour), "-.", "level")
        else:
            _line(axes, curve, key, unit)
        if curve.colour:
            last = percent(curve.last.mean("test_accuracy"), 2)
            drawing.described.append(f"{curve.label}: {last} at {percent(curve.last.mean('sparsity'))} sparsity.")
    return drawing.finish()


def _ordered(curves: Sequence[Curve]) -> list[Curve]:
    """Return at most `UNNAMED` grey curves, and then the coloured ones, which are drawn above them."""
    return [c for c in curves if not c.colour][:UNNAMED] + [c for c in curves if c.colour]


def _line(axes: Axes, curve: Curve, key: str, unit: float) -> None:
    """Draw the means of a curve with a band of ± one standard error."""
    known = [(p.mean(key), p.mean("test_accuracy"), p.error("test_accuracy")) for p in curve.points]
    drawn = [(unit * x, 100 * y, 100 * e) for x, y, e in known if x is not None and y is not None]
    if not drawn:
        return
    x, y, e = zip(*drawn, strict=True)
    shade, named = colour(curve.colour), curve.colour > 0
    marker = MARKERS[curve.colour] if named else "None"
    axes.plot(
        x, y, color=shade, marker=marker, linewidth=1.7 if named else 0.7, gid="pl-curve" if named else "pl-other"
    )
    if named and any(e):
        low, high = [a - b for a, b in zip(y, e, strict=True)], [a + b for a, b in zip(y, e, strict=True)]
        axes.fill_between(x, low, high, color=shade, alpha=0.18, linewidth=0, gid="pl-band")


def _level(axes: Axes, point: Point, shade: str, style: str | tuple[int, tuple[float, float]], name: str) -> None:
    accuracy = point.mean("test_accuracy")
    if accuracy is not None:
        axes.axhline(100 * accuracy, color=shade, linestyle=style, linewidth=1.4, gid=f"pl-{name}")


def _logarithmic(axes: Axes, values: Sequence[float], unit: str = "") -> None:
    """Make the x axis logarithmic, with a few round tick labels."""
    axes.set_xscale("log")
    low, high = min(values, default=1.0), max(values, default=1.0)
    if low == high:
        axes.set_xlim(low / 2, high * 2)
    span = high / low
    steps = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0) if span < 8 else (1.0, 2.0, 5.0) if span < 100 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value) + unit))


def _short(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def front(curves: Sequence[Curve], longer: Sequence[Baseline], chosen: Sequence[Point]) -> Figure:
    """Draw test accuracy over nonzero parameters, with rings around the `chosen` points, which are the Pareto front.

    The dense networks that were trained as long as the pruned ones (`longer`) are candidates, too.
    """
    drawing = Drawing("front", "Test accuracy over nonzero parameters, with the Pareto front")
    drawing.labels("Nonzero parameters (log scale)", ACCURACY)
    axes = drawing.axes
    _logarithmic(axes, [size for c in curves for p in c.points if (size := p.mean("nonzero"))])
    for curve in _ordered(curves):
        where = [_place(point) for point in curve.points]
        places = [place for place in where if place]
        if places:
            x, y = zip(*places, strict=True)
            marker = MARKERS[curve.colour] if curve.colour else "."
            axes.plot(x, y, marker, color=colour(curve.colour), gid="pl-points")
    for place in filter(None, (_place(line.point) for line in longer)):
        axes.plot(*place, "p", color=MUTED, gid="pl-longer")
    ringed = [place for place in map(_place, chosen) if place]
    if ringed:
        x, y = zip(*ringed, strict=True)
        axes.plot(x, y, "--", color=INK, linewidth=1, marker="o", markersize=10, mfc="none", mew=1.2, gid="pl-front")
        drawing.described.append(f"{len(ringed)} points are on the Pareto front.")
    return drawing.finish()


def _place(point: Point) -> tuple[float, float] | None:
    size, accuracy = point.mean("nonzero"), point.mean("test_accuracy")
    return None if not size or accuracy is None else (size, 100 * accuracy)


def training(curves: Sequence[Curve]) -> Iterator[Figure]:
    """Draw validation accuracy and training loss over all epochs, mean over seeds; those that have any values."""
    for key, title, unit, scale in (
        ("val_accuracy", "Validation accuracy during training", "Validation accuracy (%)", 100.0),
        ("train_loss", "Training loss", "Training loss (cross-entropy, nats)", 1.0),
    ):
        drawing = Drawing(key.replace("_", "-"), title)
        drawing.labels("Epochs from the beginning, over all rounds", unit)
        named = [curve for curve in curves if curve.colour]
        for start in _round_starts(named):
            drawing.axes.axvline(start, color=GRID, linewidth=1.2, linestyle="--", gid="pl-round")
        drawn = [curve for curve in named if _trained(drawing.axes, curve, key, scale)]
        drawing.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if drawn:
            yield drawing.finish()


def _trained(axes: Axes, curve: Curve, key: str, scale: float) -> bool:
    """Draw the mean over the runs that have the epoch; return whether there was any."""
    values = pd.DataFrame([[row.get(key) for row in run.epochs] for run in curve.last.group.runs], dtype=float)
    means = [(epoch + 1, scale * mean) for epoch, mean in enumerate(values.mean()) if not math.isnan(mean)]
    means = means[:: len(means) // EPOCHS + 1]
    if means:
        marker = MARKERS[curve.colour] if len(means) <= 30 else "None"
        x, y = zip(*means, strict=True)
        axes.plot(x, y, color=colour(curve.colour), marker=marker, markersize=3.5, gid="pl-trained")
    return bool(means)


def _round_starts(curves: Sequence[Curve]) -> list[float]:
    """Return the epochs between which rounds of pruning begin, if all curves have the same and they are at most 40."""
    found = set()
    for curve in curves:
        rounds = [row.get("round") for row in curve.last.group.runs[0].epochs]
        found.add(tuple(n + 0.5 for n in range(1, len(rounds)) if rounds[n] != rounds[n - 1]))
    (starts,) = found if len(found) == 1 else [()]
    return list(starts) if len(starts) <= 40 else []
