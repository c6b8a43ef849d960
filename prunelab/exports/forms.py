"""The forms that a run's network has at its end, for the cost card; all on the CPU, in eval mode."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from prunelab.costs.card import Form
from prunelab.exports.checkpoint import MASKS, WEIGHTS
from prunelab.exports.formats import FORMATS
from prunelab.pruning import masks


def masked(model: nn.Module, folder: Path) -> Form:
    """A network with its masks.

    Args:
        model: is moved to the CPU.
        folder: where its weights and masks will be when the form is counted.
    """
    model.cpu().eval()
    masks.refresh(model)  # masked tensors are no parameters, and stay where they were
    return Form(model, (folder / WEIGHTS, folder / MASKS))


def exported(folder: Path, model: nn.Module, kinds: Iterable[str], trusted: Iterable[str]) -> dict[str, Form]:
    """What the files of these kinds are once they are loaded again.

    Args:
        model: that they were made from, without masks: the layers of a graph are counted in it.
    """
    found = {}
    for kind in kinds:
        format = FORMATS[kind]
        files = tuple(folder / name for name in format.files)
        found[kind] = Form(format.load(folder, tuple(trusted)), files, model if format.graph else None)
    return found
