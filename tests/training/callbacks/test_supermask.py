"""Masks that are learned over fixed weights: their draws, gradients by hand, and what stays as it was."""

import pytest
import torch
from phases import linear, phase, same
from torch import nn

from prunelab.errors import ConfigError
from prunelab.training.callbacks.supermask import Supermask, bernoulli, largest
from prunelab.training.forward import substituted
from prunelab.training.optimizers import build_optimizer

WEIGHT = [[2.0, -1.0, 3.0, 0.5], [1.0, 4.0, -2.0, 1.0]]
SCORES = [[0.3, -0.9, 0.1, -0.2], [0.7, -0.4, 0.6, 0.05]]
X = torch.tensor([[1.0, -2.0, 3.0, 1.0]]).double()


def masked(density=None, scores=SCORES):
    model = nn.Sequential(linear(WEIGHT, bias=[0.5, -0.5]))
    callback = Supermask(phase(model), density=density)
    if scores is not None:
        callback.learned["0.weight"].data = torch.tensor(scores).double()
    return model, callback


@pytest.mark.parametrize("score", [-2.0, 0.0, 0.5])
def test_draws_are_one_as_often_as_the_sigmoid_says(score):
    torch.manual_seed(0)
    scores = torch.full((100_000,), score, requires_grad=True)
    mask = bernoulli(scores)
    chance = 1 / (1 + 2.718281828**-score)
    assert set(mask.unique().tolist()) == {0, 1}
    assert mask.mean().item() == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 100_000) ** 0.5)
    mask.sum().backward()
    assert torch.allclose(scores.grad, torch.tensor(chance * (1 - chance)))


def test_the_largest_scores_of_either_sign_take_part():
    mask = largest(torch.tensor(SCORES), 0.5)
    assert mask.tolist() == [[0, 1, 0, 0], [1, 1, 1, 0]]
    assert largest(torch.tensor([1.0, 2.0, 3.0]), 0.01).tolist() == [0, 0, 1]


def test_gradients_of_the_scores_by_hand():
    """∂L/∂s = g·x·w·sign(s) for edge-popup, also of weights that are out; g·x·w·σ′(s) for draws."""
    for density, slope in ((0.5, torch.sign), (None, lambda s: torch.sigmoid(s) * (1 - torch.sigmoid(s)))):
        model, callback = masked(density)
        with substituted(model.train(), callback.substitutes()):
            (model(X) * torch.tensor([1.0, -2.0])).sum().backward()
        found, g = callback.learned["0.weight"].grad, torch.tensor([[1.0], [-2.0]])
        assert torch.allclose(found, g * X * torch.tensor(WEIGHT) * slope(torch.tensor(SCORES).double()))
        assert model[0].weight.grad is None


def test_evaluation_has_one_draw_of_the_same_chances():
    model = nn.Sequential(nn.Linear(100, 100))
    callback, other = Supermask(phase(model)), Supermask(phase(model, seed=1))
    for score in (-1.0, 0.0, 2.0):
        for one in (callback, other):
            one.learned["0.weight"].data.fill_(score)
        masks = [(one.substitutes()["0.weight"] != 0).float() for one in (callback, callback, other) if model.eval()]
        assert torch.equal(masks[0], masks[1])
        assert not torch.equal(masks[0], masks[2])
        assert masks[0].mean().item() == pytest.approx(1 / (1 + 2.718281828**-score), abs=0.02)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_the_network_stays_and_only_the_scores_move(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    callback = Supermask(phase(model), density=0.5)
    optimizer = build_optimizer(kind, model, [callback], lr=0.1, weight_decay=0.1)
    scores = callback.state()["0.weight"].clone()
    for iteration in range(1, 6):
        optimizer.zero_grad()
        with substituted(model, callback.substitutes()):
            model(torch.randn(8, 4)).pow(2).sum().backward()
        callback.before_step(iteration)
        optimizer.step()
    assert same(dict(model.named_parameters()), before)
    assert not torch.equal(callback.state()["0.weight"], scores)


@pytest.mark.parametrize(("density", "zeros"), [(None, 4), (0.25, 6)])
def test_the_other_weights_end_as_zeros_and_the_output_stays(density, zeros):
    model, callback = masked(density, None if density is None else SCORES)
    callback.chances["0.weight"] = torch.arange(8).view(2, 4) / 8 + 0.1  # four are less than σ(0)
    with torch.no_grad(), substituted(model.eval(), callback.substitutes()):
        expected = model(X)
    callback.finish()
    assert not callback.substitutes()
    assert torch.equal(model(X), expected)
    assert int((model[0].weight == 0).sum()) == zeros


def test_scores_begin_at_zero_or_spread_by_the_number_of_inputs():
    assert not masked(scores=None)[1].learned["0.weight"].any()
    one, two = (masked(0.5, scores=None)[1].learned["0.weight"] for _ in range(2))
    assert torch.equal(one, two)
    assert 0.2 < one.abs().max() <= 0.5


@pytest.mark.parametrize(("key", "value"), [("density", 0), ("density", 1), ("lr", 0)])
def test_what_is_out_of_range(key, value):
    with pytest.raises(ConfigError, match=rf"regularizer.{key}={value}: must be"):
        Supermask(phase(nn.Sequential(nn.Linear(3, 2))), **{key: value})
