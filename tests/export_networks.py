"""What the tests of exports and costs share: runs of seconds, and sparse networks that nobody trained."""

from __future__ import annotations

import subprocess
from pathlib import Path

import forked
import torch
from omegaconf import DictConfig
from torch import nn

from prunelab import compose
from prunelab.models.lenet import LeNet300100

FEW = (
    "device=cpu",
    "data.limit=300",
    "train.epochs=1",
    "finetune.epochs=0",
    "schedule=one_shot",
    "amount=0.95",
    "threads=1",
)


def config(outputs: Path, *more: str) -> DictConfig:
    return compose(*FEW, f"outputs={outputs}", *more)


def sparse_lenet(sparsity: float = 0.95) -> nn.Module:
    """LeNet-300-100 with that fraction of each layer's weights set to zero."""
    torch.manual_seed(0)
    model = LeNet300100().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                gone = torch.randperm(parameter.numel())[: round(sparsity * parameter.numel())]
                parameter.view(-1)[gone] = 0.0
    return model


def command(*arguments: object) -> subprocess.CompletedProcess:
    """`python -m prunelab.export <arguments>`."""
    return forked.run(*map(str, arguments), module="prunelab.export", cwd=Path.cwd(), timeout=200)
