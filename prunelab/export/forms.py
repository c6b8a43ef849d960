"""The forms that a run's network has at its end, for the cost card; all on the CPU, in eval mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor, nn

from prunelab import building, masks
from prunelab.export.cost_card import Form
from prunelab.export.formats import FORMATS
from prunelab.export.portable import MASKS, WEIGHTS
from prunelab.randomness import seeded


def dense(config: DictConfig, weights: Mapping[str, Tensor]) -> Form:
    """The network of round 0, a new one with these weights: what is left of it now may lack whole layers."""
    with seeded("export"):
        model = building.network(config)
    model.load_state_dict(weights)
    return Form(model.eval())


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
