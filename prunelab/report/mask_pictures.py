"""Pictures of the first layer's mask: kept weights are filled, pruned ones empty, filters without any crossed out."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from safetensors import safe_open

from prunelab.report.run_folders import Run
from prunelab.runtime.regular_file import regular
from prunelab.stages.checkpoint import UNREADABLE

Cells = NDArray[np.float64]  # [height, width], the fraction of kept weights in [0, 1]
LARGEST = 64  # cells along a side; of a larger matrix the means of blocks are shown
FILTERS = 128  # filters that are drawn at most
INPUTS = 4  # filters with more input channels are shown by the mean over them
LEVELS = 8  # shades of a mean


@dataclass(frozen=True)
class Picture:
    """The mask of one tensor, with its picture; the template `macros.html.jinja` writes its `<svg>` element.

    Args:
        group: the label of the experiment.
        shape: e.g. `16×6×5×5`.
        dead: number of filters, or of rows of a matrix, without any weight.
        unit: the width of a thin line, in units of `view`, the `viewBox`.
        body: the content of the `<svg>` element, safe markup.
    """

    group: str
    tensor: str
    shape: str
    kept: int
    size: int
    dead: int
    unit: float
    view: str
    body: Markup

    @property
    def parts(self) -> str:
        """What `dead` counts."""
        return ("filter" if self.shape.count("×") > 1 else "row") + "s" * (self.dead != 1)


def picture(group: str, run: Run) -> Picture | None:
    """Draw the first masked tensor of a run; return None if the run has no masks that can be read."""
    found = _first_mask(run.folder / "masks.safetensors", next(iter(run.layers), None))
    if found is None:
        return None
    tensor, mask = found
    kept, shape = int(mask.sum()), "×".join(map(str, mask.shape))
    dead = int((mask.reshape(mask.shape[0], -1).sum(axis=1) == 0).sum()) if mask.ndim > 1 else 0
    return Picture(group, tensor, shape, kept, mask.size, dead, *_drawn(_tiles(mask)))


def _first_mask(path: Path, wanted: str | None) -> tuple[str, NDArray[np.bool_]] | None:
    try:
        with safe_open(regular(path), framework="numpy") as file:
            names = list(file.keys())
            name = wanted if wanted and wanted in names else str(names[0])
            mask = np.asarray(file.get_tensor(name)).astype(bool)
    except (OSError, *UNREADABLE):
        return None
    return (name, mask) if mask.size and mask.ndim else None


def _tiles(mask: NDArray[np.bool_]) -> list[Cells]:
    """Return one tile per filter of a convolution [out, in, …]; a matrix [out, in] or a vector is one tile."""
    cells = mask.astype(float)
    if mask.ndim < 3:
        return [_blocks(np.atleast_2d(cells))]
    cells = cells.reshape(*mask.shape[:2], -1, mask.shape[-1])[:FILTERS]  # [out, in, h, w]
    if cells.shape[1] > INPUTS:
        cells = cells.mean(axis=1, keepdims=True)
    return [_blocks(np.concatenate(list(kernels), axis=1)) for kernels in cells]  # [h, in · w]


def _blocks(cells: Cells) -> Cells:
    """Return cells; if they are too many to be seen, means of blocks, divided by the largest mean."""
    if max(cells.shape) <= LARGEST:
        return cells
    for axis in (0, 1):
        if cells.shape[axis] > LARGEST:
            parts = np.array_split(cells, LARGEST, axis=axis)
            cells = np.stack([part.mean(axis=axis) for part in parts], axis=axis)
    return cells / max(cells.max(), 1e-9)


def _drawn(tiles: list[Cells]) -> tuple[float, str, Markup]:
    """Return the width of a thin line, the `viewBox` and the content of the `<svg>` element."""
    height, width = tiles[0].shape
    across = max(1, min(len(tiles), round(math.sqrt(len(tiles) * (height + 1) / (width + 1) * 2))))
    gap = max(0.5, 0.08 * width) if len(tiles) > 1 else 0.0
    parts: list[str] = []
    for number, cells in enumerate(tiles):
        x, y = (number % across) * (width + gap), (number // across) * (height + gap)
        state = "tile" if cells.any() else "tile dead"
        cross = f'<path class="cross" d="M{x:g} {y:g}l{width} {height}m0 -{height}l-{width} {height}"/>'
        parts.append(f'<rect class="{state}" x="{x:g}" y="{y:g}" width="{width}" height="{height}"/>')
        parts += _filled(cells, x, y) if cells.any() else [cross]
    w, h = across * (width + gap) - gap, math.ceil(len(tiles) / across) * (height + gap) - gap
    unit = max(w, h) / 200  # lines are equally thin in every picture
    view = f"{-unit:.3f} {-unit:.3f} {w + 2 * unit:.3f} {h + 2 * unit:.3f}"
    return unit, view, Markup("".join(parts))


def _filled(cells: Cells, x: float, y: float) -> list[str]:
    """Return one path for each shade; neighbours of the same shade in a row are one rectangle."""
    levels = np.ceil(cells * LEVELS - 1e-9).astype(int)
    paths: dict[int, list[str]] = {}
    for row, line in enumerate(levels):
        edges = [0, *(np.flatnonzero(np.diff(line)) + 1), len(line)]
        for start, end in itertools.pairwise(edges):
            if line[start]:
                paths.setdefault(int(line[start]), []).append(
                    f"M{x + start:g} {y + row:g}h{end - start}v1h-{end - start}z"
                )
    return [f'<path class="kept" opacity="{level / LEVELS:g}" d="{"".join(d)}"/>' for level, d in sorted(paths.items())]
