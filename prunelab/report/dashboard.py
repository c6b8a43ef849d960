"""Summarize a sweep for TensorBoard: one derived run per experiment with means over seeds, and a page of charts."""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from prunelab.report.curves import Curve, Point, baselines, curves
from prunelab.report.groups import group
from prunelab.report.run_folders import find_runs
from prunelab.stages.files import drop_link
from prunelab.tracking.accuracy_figure import OVER_SPARSITY, Dot, accuracy_figure, axes

FOLDER = "summary"
LEVELS = 4  # dense networks of each kind that the picture shows at most
MEANS = "mean_over_sparsity"  # not a job's tag: a chart of means would look for its bands in the jobs, too


def write(sweep: Path) -> list[Path]:
    """Write one TensorBoard run per curve to `<sweep>/summary/<label>`, replacing what is there; return their folders.

    The step of a point is its sparsity in basis points (7300 is 73%), as in the runs of the jobs. The bands are the
    mean ± its standard error.
    """
    top = sweep / FOLDER
    drop_link(top)
    shutil.rmtree(top, ignore_errors=True)
    found = curves(group(find_runs([sweep])))
    folders = _folders(top, [curve.label for curve in found])
    dots = {curve.label: _dots(curve) for curve in found}
    dense = {line.name: line.point for longer in (False, True) for line in baselines(found, longer)[:LEVELS]}
    levels = {name: accuracy for name, point in dense.items() if (accuracy := point.mean("test_accuracy")) is not None}
    drawn = accuracy_figure({label: line for label, line in dots.items() if line}, levels)
    page = [_page(), *([drawn] if drawn else [])]  # in the first run: one of its own would have no scalars
    for curve, folder in zip(found, folders, strict=True):
        shared = [Event(summary=Summary(value=page))] if curve is found[0] else []
        _write(folder, [*shared, *(event for point in curve.points for event in _events(point))])
    return folders


def _dots(curve: Curve) -> list[Dot]:
    """Return the points of a curve for the picture."""
    values = [(p.mean("sparsity"), p.mean("test_accuracy"), p.error("test_accuracy")) for p in curve.points]
    return [Dot(x, y, error) for x, y, error in values if x is not None and y is not None]


def _folders(top: Path, labels: Sequence[str]) -> list[Path]:
    """Return a folder for each label; two may differ only far from the start, or in punctuation."""
    names = [re.sub(r"[^\w=.+-]+", "_", label)[:100] for label in labels]
    return [top / (name if names.count(name) == 1 else f"{name}~{at}") for at, name in enumerate(names)]


def _events(point: Point) -> list[Event]:
    sparsity = point.mean("sparsity")
    if sparsity is None:
        return []
    values = []
    for key in OVER_SPARSITY:
        mean, error = point.mean(key), point.error(key)
        if mean is not None:
            band = {key: mean, f"{key}_lower": mean - error, f"{key}_upper": mean + error}
            described = SummaryMetadata(summary_description=f"{axes(key)}; mean over seeds ± standard error")
            values += [
                Summary.Value(tag=f"{MEANS}/{tag}", simple_value=value, metadata=described)
                for tag, value in band.items()
            ]
    return [Event(step=round(sparsity * 10_000), summary=Summary(value=values))]


def _page() -> Summary.Value:
    """Return the page "Custom scalars": accuracy over sparsity of all jobs, and of the means with their bands.

    TensorBoard's own function that makes a summary of a layout needs TensorFlow.
    """

    def margin(key: str, title: str) -> layout_pb2.Chart:
        tags = {"value": key, "lower": f"{key}_lower", "upper": f"{key}_upper"}
        series = layout_pb2.MarginChartContent.Series(**{k: f"{MEANS}/{tag}" for k, tag in tags.items()})
        return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))

    jobs = layout_pb2.MultilineChartContent(tag=["^over_sparsity/test_accuracy$"])
    charts = [
        margin("test_accuracy", "test accuracy over sparsity (basis points), mean ± standard error"),
        margin("val_accuracy", "validation accuracy over sparsity (basis points), mean ± standard error"),
        layout_pb2.Chart(title="test accuracy over sparsity (basis points), all jobs", multiline=jobs),
    ]
    category = layout_pb2.Category(title="accuracy over sparsity", chart=charts)
    layout = layout_pb2.Layout(category=[category])
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="custom_scalars"))
    content = TensorProto(dtype=DT_STRING, string_val=[layout.SerializeToString()], tensor_shape=TensorShapeProto())
    return Summary.Value(tag="custom_scalars__config__", tensor=content, metadata=metadata)


def _write(folder: Path, events: Sequence[Event]) -> None:
    writer = EventFileWriter(str(folder))
    for event in events:
        event.wall_time = time.time()
        writer.add_event(event)
    writer.close()
