"""Several trainings as one: against the same trainings one by one, by torch's own optimizers."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_runs import SPEC, split

from prunelab import Pruner
from prunelab.data.dataset import Split
from prunelab.models.lenet import LeNet
from prunelab.models.residual_lenet import ResidualLeNet
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.training import batched_fit
from prunelab.training.batched_fit import Epoch
from prunelab.training.loop import Training, fit, one_by_one
from prunelab.training.optimizers import build_optimizer
from prunelab.training.spec import Position

IMAGES = Split(torch.randn(40, 1, 28, 28, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 10)
VECTORS, WIDTH = split(50), 4
OPTIMIZERS = {
    "adam": (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.01, "fused": True}),
    "adam with other betas": (torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "sgd": (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.01}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
}


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def training(model, optimizer=(torch.optim.Adam, {"lr": 0.01}), data=VECTORS, seed=0, decay=None, **how):
    kind, options = optimizer
    spec = dataclasses.replace(SPEC, seed=seed, **how.pop("spec", {}))
    made = build_optimizer(kind, model, decay=decay, **options)
    return Training(
        model, made, data, data, spec, [], Position(), how.pop("lr_factor", None), lambda: None, how.pop("steps", one_by_one)
    )


def run_epochs(trainings: list[Training], width: int, epochs: int = 1, interrupt=lambda: None) -> None:
    """Train by `fit` itself up to the epoch's steps, which are then taken together."""
    for _ in range(epochs):
        asked = []
        for one in trainings:
            dataclasses.replace(one, steps=lambda one, order: asked.append(Epoch(one, order, ""))).train_epoch_start()
        batched_fit.train(asked, width, interrupt)


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def together(trainings: list[Training], width: int = WIDTH, epochs: int = 1, interrupt=lambda: None) -> list[float]:
    """The mean losses of the last epoch, as `fit` computes them, where the steps were taken as one."""
    from threading import Barrier, Thread

    asked, ready, done, means = {}, Barrier(len(trainings) + 1), Barrier(len(trainings) + 1), {}

    def job(number: int) -> None:
        def steps(one, order):
            asked[number] = Epoch(one, order, "")
            ready.wait()
            done.wait()

        for _ in range(epochs):
            means[number] = dataclasses.replace(trainings[number], steps=steps).train_epoch()

    threads = [Thread(target=job, args=(number,)) for number in range(len(trainings))]
    for thread in threads:
        thread.start()
    for _ in range(epochs):
        ready.wait()
        batched_fit.train([asked[number] for number in range(len(trainings))], width, interrupt)
        done.wait()
    for thread in threads:
        thread.join()
    return [means[number] for number in range(len(trainings))]
