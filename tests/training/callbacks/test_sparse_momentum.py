"""Sparse momentum: shares by hand, and the momentum of pruned weights by NumPy."""

import numpy as np
import pytest
import torch
from phases import linear, phase
from torch import nn

import prunelab
from prunelab.errors import ConfigError
from prunelab.training import loop as training
from prunelab.training.callbacks.sparse_momentum import SparseMomentum, momentum
from prunelab.training.loop import train_step


def counts(share, *tensors):
    """(dropped, grown) of tensors, each given as (size, active weights, |momentum| of the active ones)."""
    model = nn.Sequential(*(linear(torch.ones(1, size)) for size, *_ in tensors))
    callback = SparseMomentum(phase(model, iterations=10), every=1)
    items, scores = list(callback.phase.masks), {}
    for item, (_, active, mean) in zip(items, tensors, strict=True):
        item.mask[:, active:] = 0
        scores[item.name] = torch.full_like(item.mask, 100).masked_fill(item.kept, mean)
    return callback.counts(share, items, scores)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        # 2 and 3 are dropped; of 5 a quarter is 1.25, three quarters 3.75.
        ([(10, 4, 1.0), (20, 6, 3.0)], [(2, 1), (3, 4)]),
        # The second has room for 2, and the first gets the other 3.
        ([(10, 4, 1.0), (8, 6, 3.0)], [(2, 3), (3, 2)]),
        # 10% of the second is pruned: it drops 10% of 90 where it has more momentum than the first, else half.
        ([(200, 20, 1.0), (100, 90, 3.0)], [(10, 9), (9, 10)]),
        ([(200, 20, 3.0), (100, 90, 1.0)], [(10, 45), (45, 10)]),
        # A full tensor loses weights to another.
        ([(200, 20, 3.0), (20, 20, 1.0)], [(10, 20), (10, 0)]),
        # Both together have room for 6 of 24, so that a quarter is dropped; the second has no room for half of it.
        ([(20, 16, 1.0), (10, 8, 1.0)], [(4, 4), (2, 2)]),
        # Without any momentum all have the same.
        ([(10, 4, 0.0), (20, 6, 0.0)], [(2, 3), (3, 2)]),
        # One weight is too few to share out.
        ([(10, 2, 1.0), (20, 1, 3.0)], [(1, 1), (0, 0)]),
    ],
)
def test_what_grows_is_shared_out_by_momentum(tensors, expected):
    assert counts(0.5, *tensors) == expected


def test_pruned_weights_have_momentum_and_the_largest_grow():
    """Softmax regression by SGD with Nesterov momentum: ∂L/∂w = mean of (p − y) xᵀ, at the masked weights."""
    rng = np.random.default_rng(0)
    w, x, y = rng.normal(size=(3, 8)), rng.normal(size=(20, 8)), rng.integers(0, 3, 20)
    mask = np.zeros((3, 8))
    mask.flat[rng.permutation(24)[:10]] = 1
    model = nn.Sequential(linear(w))
    given = phase(model, round=1, iterations=10)
    item = given.masks["0.weight"]
    item.mask.copy_(torch.tensor(mask))
    given.masks.apply()
    callback = SparseMomentum(given, every=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    callback.begin(optimizer)
    for iteration in (1, 2, 3):
        train_step(model, optimizer, torch.tensor(x), torch.tensor(y), iteration, [callback])
    callback.finish()

    w, buffer = w * mask, np.zeros_like(w)
    for _ in range(3):
        p = np.exp(x @ w.T)
        slope = (p / p.sum(1, keepdims=True) - np.eye(3)[y]).T @ x / 20 + 0.01 * w
        buffer = 0.9 * buffer + slope
        w = (w - 0.1 * (slope + 0.9 * buffer)) * mask
    moving = int(0.25 * (1 + np.cos(np.pi * 3 / 10)) * 10)
    assert moving == 3
    dropped = sorted(np.flatnonzero(mask), key=lambda i: np.abs(w).flat[i])[:moving]
    grown = sorted(np.flatnonzero(mask == 0), key=lambda i: -np.abs(buffer).flat[i])[:moving]
    mask.flat[dropped], mask.flat[grown] = 0, 1
    assert np.array_equal(item.mask.numpy(), mask)
    assert np.allclose(item.parameter.detach().numpy(), w * mask)
    assert np.allclose(optimizer.state[item.parameter]["momentum_buffer"].numpy(), buffer)  # of all weights
    model(torch.tensor(x)).sum().backward()
    assert not callback.missing  # the hooks are gone


def test_the_weights_that_stay_train_as_without_it():
    def trained(with_it):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
        given = phase(model, iterations=10)
        for item in given.masks:
            item.mask.view(-1)[::2] = 0
        given.masks.apply()
        optimizer, callbacks = torch.optim.Adam(model.parameters()), [SparseMomentum(given, every=9)] * with_it
        for callback in callbacks:
            callback.begin(optimizer)
        for iteration in range(1, 6):
            train_step(model, optimizer, torch.randn(4, 6), torch.randint(3, (4,)), iteration, callbacks)
        return model.state_dict()

    one, other = trained(0), trained(1)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_adams_momentum_is_the_mean_over_the_root_of_the_mean_square():
    state = {"exp_avg": torch.tensor([-6.0]), "exp_avg_sq": torch.tensor([9.0])}
    assert momentum(state).item() == pytest.approx(-2)


@pytest.mark.parametrize("optimizer", ["torch.optim.SGD", "torch.optim.Adagrad", "torch.optim.RMSprop"])
def test_an_optimizer_without_momentum_is_refused_before_training(optimizer, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *how, **more: pytest.fail("it was trained"))
    how = ["sparse_training=sparse_momentum", f"optimizer._target_={optimizer}", "data=synthetic", "train.epochs=2"]
    config = prunelab.compose(*how, "~optimizer.fused", "sparse_training.every=1", f"outputs={tmp_path}")
    with pytest.raises(ConfigError, match=r"sparse_training=sparse_momentum: must have an optimizer with momentum"):
        prunelab.run(config)
