"""The baked weights and the masks, as safetensors: what every run leaves in its folder."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from prunelab.pruning import masks
from prunelab.stages import files


def write(folder: Path, model: nn.Module) -> nn.Module:
    """Writes `masks.safetensors` (bool), bakes the masks in, and writes `model.safetensors`.

    The weights have the dense model's own keys, with zeros where they were pruned:
    `model.load_state_dict(safetensors.torch.load_file("model.safetensors"))`.

    Returns:
        The model, without masks.
    """
    kept = {item.name: item.mask.bool().cpu() for item in masks.masked(model)}
    masks.bake(model)
    files.write_file(folder / "masks.safetensors", save(kept))
    files.write_file(folder / "model.safetensors", save(contiguous(model.state_dict())))
    return model


def contiguous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of all tensors on the CPU, none of which share memory, as safetensors wants them."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
