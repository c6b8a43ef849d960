"""The forms of a run's network for the cost card; all on the CPU, in eval mode."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from prunelab.costs.card import Form
from prunelab.exports import finished_run
from prunelab.exports.checkpoint import WEIGHTS
from prunelab.exports.formats import FORMATS


def masked(model: nn.Module, folder: Path) -> Form:
    """Return the pruned network with all of its layers.

    Args:
        model: is moved to the CPU.
        folder: where its weights are when the form is counted. Its masks are for pruning it further, and not counted.
    """
    return Form(model.cpu().eval(), (folder / WEIGHTS,))


def exported(folder: Path, model: nn.Module, kinds: Iterable[str], trusted: Iterable[str]) -> dict[str, Form]:
    """Load the files of these kinds and return them as forms.

    Args:
        model: the network that graphs were made from; their layers are counted in it.
        trusted: your own packages that the model may be imported from.
    """
    found, build = {}, finished_run.builder(trusted)
    for kind in kinds:
        format = FORMATS[kind]
        files = tuple(path for name in format.files if (path := folder / name).is_file())
        found[kind] = Form(format.load(folder, build), files, model if format.graph else None)
    return found
