"""The weights and masks that every run leaves in its folder, as safetensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save
from torch import nn

from prunelab.costs.stored_tensors import contiguous
from prunelab.exports.checkpoint import MASKS, WEIGHTS
from prunelab.stages import files

if TYPE_CHECKING:
    from prunelab.pruning.masks import MaskedTensor


def write(folder: Path, model: nn.Module, masks: Iterable[MaskedTensor]) -> None:
    """Write `masks.safetensors` (bool) and `model.safetensors`, whose pruned weights are zero.

    The keys are the model's own: `model.load_state_dict(safetensors.torch.load_file("model.safetensors"))`.

    Args:
        masks: of the model.

    Raises:
        StorageError: if they cannot be written.
    """
    kept = {item.name: item.mask.bool().cpu().contiguous() for item in masks}
    files.write_file(folder / MASKS, save(kept))
    files.write_file(folder / WEIGHTS, save(contiguous(model.state_dict())))
