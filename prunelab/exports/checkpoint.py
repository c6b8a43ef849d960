"""Weights and masks as safetensors: what every run leaves, and, with model.json, the portable checkpoint. No pickle."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab.costs.stored_tensors import contiguous
from prunelab.exports import network_files
from prunelab.exports.network_files import Build, Json, Network
from prunelab.pruning.masks import MaskedTensor

WEIGHTS, MASKS, DESCRIPTION = "model.safetensors", "masks.safetensors", "model.json"


def write(folder: Path, model: nn.Module, masks: Iterable[MaskedTensor]) -> None:
    """Write `model.safetensors`, whose pruned weights are zero, and `masks.safetensors` (bool), as every run does.

    The keys are the model's own: `model.load_state_dict(safetensors.torch.load_file("model.safetensors"))`.
    Raises StorageError if they cannot be written.
    """
    kept = {item.name: item.mask.bool().cpu().contiguous() for item in masks}
    content = {MASKS: to_bytes(kept), WEIGHTS: to_bytes(contiguous(model.state_dict()))}
    network_files.write_all(folder, content)


def save(folder: Path, network: Network) -> None:
    """Write the checkpoint. A live module has no masks: its zeros are in its weights. For errors see `write`."""
    state = contiguous(network.model.state_dict())
    content = {WEIGHTS: to_bytes(state)} | ({MASKS: to_bytes(dict(network.masks))} if network.masks else {})
    tensors = {name: {"shape": list(value.shape), "dtype": str(value.dtype)} for name, value in state.items()}
    masks = {
        name: {"shape": list(mask.shape), "kept": int(torch.count_nonzero(mask)), "of": mask.numel()}
        for name, mask in network.masks.items()
    }
    network_files.save(folder, network, content, DESCRIPTION, {"tensors": tensors, "masks": masks})


def load(folder: Path, build: Build) -> nn.Module:
    """Return the network of a checkpoint; see `network_files.load`."""

    def filled(model: nn.Module, said: Json, state: dict[str, Tensor]) -> nn.Module:
        network_files.put(model, state)
        return model

    return network_files.load(folder, WEIGHTS, DESCRIPTION, build, filled)
