"""Draw the figures of the docs by the code that they explain, into docs/figures: python scripts/site_figures.py."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import prunelab
from prunelab.models.lenet import LeNet
from prunelab.pruning import allocation, granularity, schedules
from prunelab.pruning.lookup import choices, find

mpl.use("svg")
SPARSITY, ROUNDS, AMOUNT = 0.8, 5, 0.2


def figures() -> dict[str, str]:
    """Return each figure as SVG, by its path below docs/."""
    drawn = (draw_schedules, draw_granularities, draw_allocations, draw_stages)
    return {f"figures/{one.__name__.removeprefix('draw_')}.svg": one() for one in drawn}


def _svg(figure: Figure) -> str:
    with mpl.rc_context({"svg.hashsalt": "prunelab"}):
        stream = io.StringIO()
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def draw_schedules() -> str:
    """Draw the density after each round, for every schedule that prunes between rounds."""
    figure = Figure(figsize=(7, 3.2))
    axes = figure.add_subplot()
    curves: dict[tuple[float, ...], list[str]] = {}
    for name in sorted(choices(schedules)):
        if amounts := _amounts(find(schedules, "schedule", name)):
            curves.setdefault(tuple(amounts), []).append(name)
    for amounts, names in curves.items():
        left = list(accumulate(amounts, lambda density, amount: density * (1 - amount), initial=1.0))
        axes.plot(left, marker=".", label=", ".join(names))
    axes.set(xlabel="round", ylabel="density: unpruned ÷ all", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize="small")
    return _svg(figure)


def _amounts(schedule: Callable[..., object]) -> list[float]:
    """Return the amounts of a schedule for typical arguments; empty for one that prunes during training."""
    values = {"rounds": ROUNDS, "sparsity": SPARSITY, "amount": AMOUNT, "step": 0.1, "tolerance": 0.005}
    wanted = list(inspect.signature(schedule).parameters)
    if not set(wanted) <= set(values):
        return []
    arguments = {name: values[name] for name in wanted}
    if schedule.__name__ == "one_shot":
        arguments |= {"rounds": 1, "amount": SPARSITY}
    return [float(amount) for amount in schedule(**arguments)]  # type: ignore[attr-defined]


def draw_granularities() -> str:
    """Draw which half of a convolution each granularity prunes: a row for each output channel."""
    names = sorted(choices(granularity))
    figure = Figure(figsize=(7, 1.1 * len(names)))
    for place, name in enumerate(names):
        torch.manual_seed(0)
        model = torch.nn.Conv2d(6, 8, 3, bias=False)
        prunelab.Pruner(model, granularity=name, allocation="local", output_layer=True).prune(0.5)
        axes = figure.add_subplot(len(names), 1, place + 1)
        axes.imshow(
            (model.weight.detach().flatten(1) != 0).numpy(),
            cmap="Blues",
            aspect="auto",
            interpolation="nearest",
            vmin=0,
            vmax=1.4,
        )
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        _without_ticks(axes)
    return _svg(figure)


def draw_allocations() -> str:
    """Draw the density of each tensor of LeNet at one sparsity, for every allocation."""
    names = sorted(choices(allocation))
    figure = Figure(figsize=(7, 3.2))
    axes = figure.add_subplot()
    tensors: list[str] = []
    for place, name in enumerate(names):
        torch.manual_seed(0)
        pruner = prunelab.Pruner(LeNet(), allocation=name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a tensor is down to its last weights
            own = pruner.groups[0].rule.allocation.sets_amount
            pruner.prune(None if own else SPARSITY)
        tensors = [item.name.removesuffix(".weight") for item in pruner.masks]
        density = [float(item.mask.float().mean()) for item in pruner.masks]
        at = [index + (place - len(names) / 2) / (len(names) + 1.5) for index in range(len(tensors))]
        axes.bar(at, density, 1 / (len(names) + 1.5), label=f"{name}*" if own else name)
    axes.set(xticks=range(len(tensors)), xticklabels=tensors, ylabel="density of the tensor")
    axes.legend(frameon=False, ncols=2, fontsize="small")
    return _svg(figure)


def draw_stages() -> str:
    """Draw the stages of a sweep over two strategies, which share the initial weights and dense training."""
    figure = Figure(figsize=(7, 2))
    axes = figure.add_subplot()
    boxes = {"init": (0, 0.5), "dense": (1, 0.5)}
    boxes |= {
        f"round {number}\n{name}": (number + 1, height)
        for name, height in (("global", 1), ("l1", 0))
        for number in (1, 2, 3)
    }
    for label, (x, y) in boxes.items():
        axes.text(
            x,
            y,
            label,
            ha="center",
            va="center",
            fontsize=9,
            bbox={"boxstyle": "round,pad=0.5", "fc": "#e8eaf6", "ec": "#3f51b5"},
        )
    arrows = [
        ((0, 0.5), (1, 0.5)),
        *(((number, height if number > 1 else 0.5), (number + 1, height)) for height in (0, 1) for number in (1, 2, 3)),
    ]
    for start, end in arrows:
        style = {"arrowstyle": "->", "color": "#3f51b5", "shrinkA": 24, "shrinkB": 26}
        axes.annotate("", end, start, arrowprops=style)
    axes.set(xlim=(-0.4, 4.5), ylim=(-0.4, 1.4))
    axes.axis("off")
    return _svg(figure)


def _without_ticks(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])


if __name__ == "__main__":
    for path, content in figures().items():
        target = Path(__file__).resolve().parent.parent / "docs" / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(content, encoding="utf-8")
