"""Phases of training for callbacks without an experiment; and real runs that are interrupted and resumed."""

from __future__ import annotations

import torch
from conftest import broken_off, numbers, run, table
from torch import nn

from prunelab.pruning.masks import Masks
from prunelab.pruning.prunable import select
from prunelab.training.callbacks.base import Phase


def phase(model, *, pairs=None, round=0, iterations=10, batch=None, seed=0):
    """A phase in which all prunable tensors have masks of ones."""
    masks = Masks(model)
    masks.add(select(model) if pairs is None else pairs)
    return Phase(model, masks, seed, round, iterations, batch or (lambda iteration: None))


def halved(*items):
    """Prune every other weight of these tensors."""
    for item in items:
        item.mask.view(-1)[::2] = 0
        item.apply()


def penalty(callback):
    """What a callback adds to a loss of 0 that depends on nothing."""
    return callback.objective(torch.zeros(()), None, None)


def linear(weight, bias=None):
    """A Linear layer with these weights, float64."""
    weight = torch.as_tensor(weight, dtype=torch.float64)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(torch.as_tensor(bias, dtype=torch.float64))
    return layer


def same(one, other) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def resumed(folder, batch, *more):
    """The run that stops before its batch `batch` (from 0), and then continues to its end."""
    with broken_off(batch):
        run(folder, *more)
    return run(folder, *more)


def assert_same_end(one, other) -> None:
    """Two runs have the same rows, masks and weights, bit for bit."""
    assert numbers(one.folder) == numbers(other.folder)
    assert table(one.folder / "layers.csv") == table(other.folder / "layers.csv")
    assert same(one.model.state_dict(), other.model.state_dict())
