"""Trainings of small networks, for the tests that take their steps together or by a CUDA graph."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from training_runs import SPEC, split

from prunelab.data.dataset import Split
from prunelab.models.lenet import LeNet
from prunelab.training.loop import Training, one_by_one
from prunelab.training.optimizers import build_optimizer
from prunelab.training.spec import Position

IMAGES = Split(torch.randn(40, 1, 28, 28, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 10)
VECTORS = split(50)
ADAM = (torch.optim.Adam, {"lr": 0.01})
OPTIMIZERS = {
    "adam": (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.01, "fused": True}),
    "adam with other betas": (torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "sgd": (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
}


def net(seed: int, *more: nn.Module) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), *more, nn.ReLU(), nn.Linear(16, 3))


def training(model, optimizer=ADAM, data=VECTORS, seed=0, decay=None, lr_factor=None, **spec):
    made = build_optimizer(optimizer[0], model, decay=decay, **optimizer[1])
    spec = dataclasses.replace(SPEC, seed=seed, **spec)
    return Training(model, made, data, data, spec, [], Position(), lr_factor, lambda: None, one_by_one)


def lenet(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return LeNet()
