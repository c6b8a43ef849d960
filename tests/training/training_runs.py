"""A small network and its training, for the tests of the loop."""

from __future__ import annotations

import dataclasses
import warnings
from contextlib import contextmanager

import torch
from torch import nn

from prunelab.data.dataset import Split
from prunelab.training.loop import fit
from prunelab.training.optimizers import build_optimizer
from prunelab.training.spec import TrainSpec

FEATURES, CLASSES = 8, 3

FEATURES, CLASSES = 8, 3


@contextmanager
def never_waiting():
    """RuntimeError from a CUDA operation in the context for which the host waits for the GPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def split(examples: int, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, FEATURES, generator=generator)
    return Split(inputs, torch.randint(CLASSES, (examples,), generator=generator))


def network(dropout: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, CLASSES))


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return build_optimizer(torch.optim.Adam, model, lr=0.01)


SPEC = TrainSpec(iterations=21, batch_size=8, seed=5, round=2)


def trained(model, optimizer, *, callbacks=(), position=None, on_batch=lambda: None, lr_factor=None, **spec):
    """Records of training on 50 examples in batches of 8: 7 batches per epoch, the last of 2."""
    how = {"position": position, "on_batch": on_batch, "lr_factor": lr_factor}
    return list(fit(model, optimizer, split(50), split(20, 1), dataclasses.replace(SPEC, **spec), callbacks, **how))


def bits(model: nn.Module) -> dict[str, list[int]]:
    return {key: value.view(torch.int32).flatten().tolist() for key, value in model.state_dict().items()}


def without_seconds(records):
    return [dataclasses.replace(record, seconds=0) for record in records]
