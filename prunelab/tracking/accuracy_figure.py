"""Test accuracy over sparsity as a picture for TensorBoard, whose own charts have whole numbers on their axis."""

import importlib.util
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tensorboard.compat.proto.summary_pb2 import Summary

from prunelab.records import RoundRecord
from prunelab.text import dense_name, visible

OVER_SPARSITY = ("test_accuracy", "val_accuracy")
TAG = "accuracy_over_sparsity"
INCHES, DPI = (7.0, 4.5), 100
STYLES = (":", "--", "-.")  # of the lines of dense networks
LONGEST = 80  # characters of a name


class Dot(NamedTuple):
    """One point: sparsity and test accuracy, both fractions, and the standard error over seeds (0 for one seed)."""

    sparsity: float
    accuracy: float
    error: float = 0.0


def axes(key: str) -> str:
    """Return what a chart over sparsity shows, `test_accuracy` for example."""
    which = "Test" if key.startswith("test") else "Validation"
    return f"{which} accuracy, a fraction, over sparsity in basis points: a step of 7300 is 73% zeros"


def dense_levels(dense: RoundRecord, longer: RoundRecord | None) -> dict[str, float]:
    """Return the test accuracies of a run's dense networks by name: before pruning, and trained as long.

    One that was not trained at all, since the run prunes at initialization, is left out.
    """
    named = ((dense, "before pruning"), (longer, "as the pruned one"))
    return {dense_name(row.epochs, told): row.test_accuracy for row, told in named if row and row.epochs}


def accuracy_figure(series: Mapping[str, Sequence[Dot]], dense: Mapping[str, float]) -> Summary.Value | None:
    """Return the picture of curves, and of `dense` networks as horizontal lines, by name; None without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    figure = Figure(INCHES, DPI, layout="constrained")
    plot = figure.add_subplot()
    lines: list[Any] = []  # matplotlib's lines, and its containers of lines with bars
    for dots in series.values():
        x, y, error = ([100 * value for value in column] for column in zip(*dots, strict=True))
        lines.append(plot.errorbar(x, y, error if any(error) else None, marker="o", capsize=3))
    for accuracy, style in zip(dense.values(), itertools.cycle(STYLES), strict=False):
        lines.append(plot.axhline(100 * accuracy, color="grey", linestyle=style))
    if any(dot.error for dots in series.values() for dot in dots):
        plot.set_title("bars: ± standard error over seeds", fontsize="medium")
    plot.set(xlabel="sparsity in % (zeros ÷ weights that may be pruned)", ylabel="test accuracy in %")
    plot.grid(alpha=0.3)
    names = [visible(name if len(name) <= LONGEST else f"{name[:LONGEST]} …", "") for name in (*series, *dense)]
    for text in plot.legend(lines, names).get_texts():  # also a name with an underscore at its beginning
        text.set_parse_math(False)  # `$` is no formula
    file = io.BytesIO()
    figure.savefig(file, format="png")
    width, height = (round(inches * DPI) for inches in INCHES)
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file.getvalue())
    return Summary.Value(tag=TAG, image=image)
