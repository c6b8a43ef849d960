"""SET and RigL: by hand, by properties over many steps, by an independent oracle, and through an interruption."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phases import linear, phase
from torch import nn

from prunelab.errors import ConfigError
from prunelab.pruning.masks import Masks
from prunelab.training.callbacks import drop_and_grow as module_under_test
from prunelab.training.callbacks.base import Phase
from prunelab.training.callbacks.drop_and_grow import drop_and_grow
from prunelab.training.callbacks.rigl import RigL
from prunelab.training.callbacks.set_training import SET


def masked(weight, mask):
    """A model of one Linear layer, its masks, and its one masked tensor."""
    model = nn.Sequential(linear(weight))
    masks = Masks(model)
    masks.add([(model[0], "weight")])
    item = masks["0.weight"]
    item.mask.copy_(torch.as_tensor(mask))
    return model, masks, item


# By hand


def test_four_weights_by_hand():
    # Active: 0.3, −0.1, 2. The smallest, −0.1, goes; of the inactive 9 and 8 (their weights), the score picks the last.
    _, masks, item = masked([[0.3, -0.1, 9, 2, 8]], [[1, 1, 0, 1, 0]])
    drop_and_grow(item, torch.tensor([[100.0, 100, 1, 100, 2]]), 1, 1, None)
    assert item.mask.tolist() == [[1, 0, 0, 1, 1]]
    masks.apply()
    assert item.parameter.tolist() == [[pytest.approx(0.3), 0, 0, 2, 0]]  # the grown one starts at 0


def test_what_was_dropped_just_now_does_not_grow():
    *_, item = masked([[0.3, 0.1, 9, 2]], [[1, 1, 0, 1]])
    drop_and_grow(item, torch.tensor([[0.0, 100, 1, 0]]), 1, 1, None)
    assert item.mask.tolist() == [[1, 0, 1, 1]]


def test_of_equals_the_first_is_dropped_and_the_last_grows():
    *_, item = masked([[1, 1, 5, 5, 1]], [[1, 1, 0, 0, 1]])
    drop_and_grow(item, torch.ones(1, 5), 1, 1, None)
    assert item.mask.tolist() == [[0, 1, 0, 1, 1]]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_what_grows_has_no_momentum(kind):
    model, _, item = masked([[0.3, 0.1, 9, 2]], [[1, 1, 1, 1]])
    optimizer = kind(model.parameters(), lr=0.001, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
    model(torch.ones(1, 4).double()).sum().backward()
    optimizer.step()
    item.mask[0, 2] = 0
    before = copy.deepcopy(dict(optimizer.state[item.parameter]))
    drop_and_grow(item, torch.tensor([[0.0, 0, 1, 0]]), 1, 1, optimizer)
    assert item.mask.tolist() == [[1, 0, 1, 1]]
    memories = [key for key, value in before.items() if key != "step" and isinstance(value, torch.Tensor)]
    assert memories
    for key in memories:
        assert before[key].all()
        assert optimizer.state[item.parameter][key][0, 2] == 0
        assert torch.equal(optimizer.state[item.parameter][key][0, :2], before[key][0, :2])
    assert optimizer.state[item.parameter].get("step") == before.get("step")


def test_a_weight_of_one_element_keeps_adams_step():
    model, _, item = masked([[3.0]], [[1]])
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.state[item.parameter] = {"step": torch.tensor([[7.0]]), "exp_avg": torch.tensor([[7.0]])}
    item.mask[:] = 0
    item.parameter.data = torch.tensor([[3.0]]).double()
    drop_and_grow(item, torch.ones(1, 1), 0, 0, optimizer)
    assert optimizer.state[item.parameter]["step"].item() == 7


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40), st.floats(0, 1))
def test_drop_and_grow_is_the_plain_algorithm(seed, size, share):
    rng = np.random.default_rng(seed)
    weight, mask, scores = rng.normal(size=(1, size)), rng.integers(0, 2, (1, size)), rng.random((1, size))
    active = np.flatnonzero(mask[0])
    idle = np.flatnonzero(mask[0] == 0)
    moving = min(round(share * len(active)), len(idle))
    dropped = set(sorted(active, key=lambda i: abs(weight[0, i]))[:moving])
    grown = set(sorted(idle, key=lambda i: -scores[0, i])[:moving])
    *_, item = masked(weight, mask)
    drop_and_grow(item, torch.tensor(scores), moving, moving, None)
    assert set(np.flatnonzero(item.mask[0].numpy())) == set(active) - dropped | grown
    kept = sorted(set(active) - dropped)
    assert np.allclose(item.parameter.detach()[0, kept].numpy(), weight[0, kept])


# When and how much


def ready(kind, *, iterations=100, seed=0, round=1, **how):
    """A callback over a hundred weights, fifty of them active, and one dense tensor; and the sparse tensor."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 3))
    batch = torch.randn(8, 10), torch.randint(3, (8,))
    given = phase(model, seed=seed, round=round, iterations=iterations, batch=lambda i: batch)
    item = given.masks["0.weight"]
    item.mask.zero_().view(-1)[torch.randperm(100)[:50]] = 1
    given.masks.apply()
    return kind(given, **how), item


@pytest.mark.parametrize("kind", [SET, RigL])
def test_it_moves_every_so_often_and_then_no_more(kind):
    callback, item = ready(kind, every=7, until=0.5)
    moved = []
    for iteration in range(1, 101):
        before = item.mask.clone()
        callback.after_step(iteration)
        if not torch.equal(before, item.mask):
            moved.append(iteration)
        assert item.mask.sum() == 50
        assert not item.parameter[item.mask == 0].any()
        assert callback.phase.masks["2.weight"].mask.all()
    assert moved == [7, 14, 21, 28, 35, 42, 49][: len(moved)]
    assert len(moved) >= (7 if kind is SET else 6)  # the last share of RigL's may round to none


def test_nothing_moves_after_the_last_iteration():
    callback, item = ready(SET, every=50, until=1)
    before = item.mask.clone()
    callback.after_step(100)
    assert torch.equal(before, item.mask)


@pytest.mark.parametrize(("kind", "how"), [(RigL, {}), (SET, {"decay": "cosine"})])
def test_the_share_falls_along_a_cosine(kind, how):
    callback, _ = ready(kind, every=1, until=0.8, fraction=0.4, **how)
    assert callback.share(0) == pytest.approx(0.4)
    assert callback.share(20) == pytest.approx(0.2 * (1 + 2**-0.5))
    assert callback.share(40) == pytest.approx(0.2)
    assert callback.share(80) == pytest.approx(0)


def test_sets_share_does_not():
    callback, item = ready(SET, every=1, until=1, fraction=0.3)
    for iteration in (1, 50, 99):
        before = item.mask.clone()
        callback.after_step(iteration)
        assert (before > item.mask).sum() == 15  # 0.3 · 50


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"every": 0}, r"sparse_training.every=0: must be a whole number ≥ 1"),
        ({"decay": "linear"}, r"sparse_training.decay=linear: must be constant or cosine"),
        ({"every": 1.5}, r"sparse_training.every=1.5: must be a whole number ≥ 1"),
        ({"until": 1.5}, r"sparse_training.until=1.5: must be a fraction in \(0, 1\]"),
        ({"fraction": 1}, r"sparse_training.fraction=1: must be a fraction in \(0, 1\)"),
        ({"every": 75}, r"sparse_training.every=75: must be less than 75, .*until=0.75 of 100 iterations"),
    ],
)
def test_what_is_out_of_range(how, message):
    with pytest.raises(ConfigError, match=message):
        ready(SET, **how)


def test_a_tensor_that_is_not_selected_is_left_alone():
    callback, _ = ready(SET, every=1)
    callback.phase = dataclasses.replace(callback.phase, tensors=["0.weight", "2.weight"])
    masks = callback.phase.masks
    masks.add([(masks["0.weight"].module, "bias")])
    masks["0.bias"].mask[:5] = 0
    callback.after_step(1)
    assert masks["0.bias"].mask.tolist() == [0] * 5 + [1] * 5


def test_weights_that_are_no_numbers_are_left_to_the_loss():
    callback, item = ready(RigL, every=1)
    item.parameter.data.fill_(torch.nan)
    before = item.mask.clone()
    callback.after_step(1)
    assert torch.equal(before, item.mask)


# Where SET grows


def test_set_grows_uniformly():
    """Chi-square over 60 idle places, 30 grown of them, in 400 draws."""
    counts = torch.zeros(10, 10)
    for seed in range(400):
        callback, item = ready(SET, seed=seed, every=1, fraction=0.4)
        item.mask.zero_().view(-1)[:40] = 1
        callback.after_step(1)
        counts += (item.mask == 1) & (torch.arange(100).view(10, 10) >= 40)
    grown = counts.flatten()[40:].double()
    expected = 400 * 16 / 60
    assert grown.sum() == 400 * 16
    chi = ((grown - expected) ** 2 / (expected * (1 - 16 / 60))).sum()  # drawn without replacement
    assert 30 < chi < 98  # 59 degrees of freedom: one in a thousand either way


def test_set_draws_by_seed_round_and_iteration():
    def scores(seed, round, iteration):
        callback, item = ready(SET, seed=seed, round=round, every=10)
        return callback.scores(iteration, [item])["0.weight"]

    first = scores(0, 1, 100)
    assert torch.equal(first, scores(0, 1, 100))
    for other in ((1, 1, 100), (0, 2, 100), (0, 1, 200)):
        assert not torch.equal(first, scores(*other))


# Where RigL grows


def test_rigl_grows_the_largest_gradients():
    """Softmax regression in NumPy: ∂L/∂w = mean of (p − y) xᵀ, at the masked weights."""
    rng = np.random.default_rng(0)
    w, x, y = rng.normal(size=(3, 8)), rng.normal(size=(20, 8)), rng.integers(0, 3, 20)
    mask = np.zeros((3, 8))
    mask.flat[rng.permutation(24)[:10]] = 1
    model, masks, item = masked(w, mask)
    masks.apply()
    given = Phase(model, masks, 0, 1, 100, lambda i: (torch.tensor(x), torch.tensor(y)))
    callback = RigL(given, every=10, until=1, fraction=0.4)
    p = np.exp(x @ (w * mask).T)
    slope = (p / p.sum(1, keepdims=True) - np.eye(3)[y]).T @ x / 20
    assert np.allclose(callback.scores(10, [item])["0.weight"], np.abs(slope))
    moving = round(0.2 * (1 + np.cos(np.pi * 10 / 100)) * 10)
    assert moving == 4
    expected = sorted(np.flatnonzero(mask.flat == 0), key=lambda i: -np.abs(slope).flat[i])[:moving]
    callback.after_step(10)
    now = item.mask.numpy()
    assert sorted(np.flatnonzero((now > mask).flat)) == sorted(expected)


def test_the_gradient_leaves_no_traces():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )
    batch = torch.randn(6, 1, 8, 8), torch.randint(3, (6,))
    given = phase(model, round=1, iterations=100, batch=lambda i: batch)
    callback, item = RigL(given, every=1), given.masks["0.weight"]
    item.mask[:, :, 0] = 0
    given.masks.apply()
    for training_mode in (True, False):
        model.train(training_mode)
        before = copy.deepcopy(model.state_dict()), torch.get_rng_state()
        first = callback.scores(1, [item])
        again = callback.scores(1, [item])
        assert torch.equal(first["0.weight"], again["0.weight"])  # dropout draws the same
        assert not torch.equal(first["0.weight"], callback.scores(2, [item])["0.weight"])
        after = model.state_dict()
        assert all(torch.equal(before[0][name], after[name]) for name in after)
        assert torch.equal(before[1], torch.get_rng_state())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert model.training == training_mode
    assert first["0.weight"][:, :, 0].gt(0).any()  # pruned weights have gradients too


def test_a_frozen_tensor_asks_for_nothing():
    callback, item = ready(RigL, every=1)
    item.parameter.requires_grad_(False)
    assert (callback.scores(1, [item])["0.weight"] == 0).all()


def test_scores_come_before_anything_moves(monkeypatch):
    """RigL's gradients are of the network before the first tensor's weights are dropped."""
    order = []
    callback, _ = ready(RigL, every=1)
    callback.phase.masks["2.weight"].mask[0, :5] = 0
    scores = callback.scores
    monkeypatch.setattr(callback, "scores", lambda *how: order.append("scores") or scores(*how))
    monkeypatch.setattr(module_under_test, "drop_and_grow", lambda *how: order.append("moves"))
    callback.after_step(1)
    assert order == ["scores", "moves", "moves"]
