"""Recount what a run reported, from its files. Shares no code with prunelab: safetensors and plain torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


@dataclass(frozen=True)
class Counted:
    """What the files of a run hold: the last round's numbers, by the names that the run reports them under."""

    parameters: int
    nonzero: int
    sparsity: float
    compression_ratio: float
    test_accuracy: float


def reported(folder: Path) -> Counted:
    """Return the final round as `summary.json` has it."""
    final = json.loads((folder / "summary.json").read_text())["final"]
    return Counted(**{name: final[name] for name in Counted.__dataclass_fields__})


def recounted(folder: Path, build: Callable[[], nn.Module], inputs: Tensor, labels: Tensor) -> Counted:
    """Count and evaluate the network that the files hold.

    Args:
        build: returns the network, with any weights.
        inputs, labels: the test split.
    """
    model = rebuilt(folder, build)
    tensors = load_file(folder / "model.safetensors")
    names = [name for name, _ in model.named_parameters()]  # a shared parameter once, under its first name
    size = sum(tensors[name].numel() for name in names)
    nonzero = sum(int((tensors[name] != 0).sum()) for name in names)
    masked = list(load_file(folder / "masks.safetensors"))
    zeros = sum(int((tensors[name] == 0).sum()) for name in masked)
    whole = sum(tensors[name].numel() for name in masked)
    return Counted(
        size, nonzero, zeros / whole if whole else 0.0, size / max(nonzero, 1), accuracy(model, inputs, labels)
    )


def rebuilt(folder: Path, build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network of the files, in eval mode."""
    model = build()
    state = model.state_dict()  # keeps the versions of its modules, which MNASNet asks for
    state.update(load_file(folder / "model.safetensors"))
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Return the fraction of examples whose largest output is their label's."""
    return (model(inputs.clone()).argmax(1) == labels).double().mean().item()
