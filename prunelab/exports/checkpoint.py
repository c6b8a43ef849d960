"""The portable checkpoint: model.safetensors, masks.safetensors and model.json. Nothing in it is pickled."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save as to_bytes
from torch import nn

from prunelab.costs.stored_tensors import contiguous
from prunelab.exports import network_files
from prunelab.exports.network_files import Build, Network

WEIGHTS, MASKS, DESCRIPTION = "model.safetensors", "masks.safetensors", "model.json"


def save(folder: Path, network: Network) -> None:
    """Write the files. A live module has no masks: its zeros are in its weights.

    Raises:
        StorageError: if they cannot be written.
    """
    state = contiguous(network.model.state_dict())
    content = {WEIGHTS: to_bytes(state)} | ({MASKS: to_bytes(dict(network.masks))} if network.masks else {})
    said = network_files.describe(network, content)
    said["tensors"] = {name: {"shape": list(value.shape), "dtype": str(value.dtype)} for name, value in state.items()}
    said["masks"] = {
        name: {"shape": list(mask.shape), "kept": int(mask.sum()), "of": mask.numel()}
        for name, mask in network.masks.items()
    }
    network_files.write(folder, content, said, DESCRIPTION)


def load(folder: Path, build: Build) -> nn.Module:
    """Return the network of a checkpoint; on the CPU, in eval mode.

    Raises:
        ConfigError: if the files are missing, damaged, or do not belong together.
    """
    said = network_files.read_json(folder / DESCRIPTION)
    data = network_files.read_bytes(folder / WEIGHTS)
    network_files.verify(folder, {WEIGHTS: data}, said)
    model = build(said).cpu()
    network_files.fill(model, network_files.tensors(folder / WEIGHTS, data), folder / WEIGHTS)
    return model.eval()
