"""The first layer's mask as a picture: kept cells filled, pruned ones empty, empty filters framed."""

from __future__ import annotations

import html
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from prunelab.report.reading import Run

Cells = NDArray[np.float64]  # the fraction kept, in [0, 1]
LARGEST = 64  # cells a side; a larger matrix is shown by the means of its blocks
FILTERS = 128  # at most so many filters are drawn
INPUTS = 4  # filters with more input channels are shown by the mean over them
LEVELS = 8


@dataclass(frozen=True)
class Picture:
    """An SVG and its numbers."""

    group: str
    tensor: str
    shape: str
    kept: int
    size: int
    dead: int
    svg: str


def picture(group: str, run: Run) -> Picture | None:
    """Draws the first masked tensor of a run; None if it left no masks, or none that can be read."""
    first = run.layers[0]["tensor"] if run.layers else None
    found = _first_mask(run.folder / "masks.safetensors", first)
    if found is None:
        return None
    tensor, mask = found
    kept, shape = int(mask.sum()), "×".join(map(str, mask.shape))
    dead = int((mask.reshape(mask.shape[0], -1).sum(axis=1) == 0).sum()) if mask.ndim > 1 else 0
    said = f"{group}: mask of {tensor}, {shape}; {kept:,} of {mask.size:,} kept, {dead} filters or rows empty"
    return Picture(group, tensor, shape, kept, mask.size, dead, _svg(_tiles(mask), said))


def _first_mask(path: Path, wanted: str | None) -> tuple[str, NDArray[np.bool_]] | None:
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            name = wanted if wanted and wanted in names else str(names[0])
            mask = np.asarray(file.get_tensor(name)).astype(bool)
    except (OSError, SafetensorError, IndexError, ValueError, TypeError):
        return None
    return (name, mask) if mask.size and mask.ndim else None


def _tiles(mask: NDArray[np.bool_]) -> list[Cells]:
    """A filter bank [out, in, …] as a tile a filter; a matrix [out, in] or a vector as one."""
    cells = mask.astype(float)
    if mask.ndim < 3:
        return [_blocks(np.atleast_2d(cells))]
    cells = cells.reshape(*mask.shape[:2], -1, mask.shape[-1])[:FILTERS]  # [out, in, h, w]
    if cells.shape[1] > INPUTS:
        cells = cells.mean(axis=1, keepdims=True)
    return [_blocks(np.concatenate(list(kernels), axis=1)) for kernels in cells]  # [h, in · w]


def _blocks(cells: Cells) -> Cells:
    """The means of blocks, where there are too many cells to be seen; the densest is 1."""
    if max(cells.shape) <= LARGEST:
        return cells
    for axis in (0, 1):
        if cells.shape[axis] > LARGEST:
            parts = np.array_split(cells, LARGEST, axis=axis)
            cells = np.stack([part.mean(axis=axis) for part in parts], axis=axis)
    return cells / max(cells.max(), 1e-9)


def _svg(tiles: list[Cells], said: str) -> str:
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
    unit = max(w, h) / 200  # so that frames are equally thin in every picture
    return (
        f'<svg class="mask" role="img" aria-label="{html.escape(said)}" style="--u:{unit:.3f}" '
        f'viewBox="{-unit:.3f} {-unit:.3f} {w + 2 * unit:.3f} {h + 2 * unit:.3f}">{"".join(parts)}</svg>'
    )


def _filled(cells: Cells, x: float, y: float) -> list[str]:
    """A path for each level of density: runs of equal cells become one rectangle."""
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
