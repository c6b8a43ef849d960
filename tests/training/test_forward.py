"""Substitution: other tensors in the place of parameters, for the duration of a forward pass."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from prunelab.training.forward import substituted


def named(model):
    return [(name, id(parameter)) for name, parameter in model.named_parameters(remove_duplicate=False)]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(3, 4, num_layers=2, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 2, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x):
        y = self.rnn(x)[0]
        return self.out(self.attention(y, y, y, need_weights=False)[0])


@pytest.mark.parametrize("name", [name for name, _ in Recurrent().named_parameters()])
def test_the_model_computes_with_the_replacement(name):
    model, x = Recurrent(), torch.randn(2, 5, 3)
    expected = copy.deepcopy(model)
    with torch.no_grad():
        expected.get_parameter(name).mul_(3)
    scale = torch.tensor(3.0, requires_grad=True)
    before, weight = named(model), model.get_parameter(name)
    with substituted(model, {name: weight * scale}):
        y = model(x)
    assert torch.equal(y, expected(x))
    assert not torch.equal(y, model(x))
    assert named(model) == before
    assert list(model.state_dict()) == list(expected.state_dict())
    y.square().sum().backward()
    expected(x).square().sum().backward()
    torch.testing.assert_close(weight.grad, 3 * expected.get_parameter(name).grad)
    torch.testing.assert_close(scale.grad, (weight * expected.get_parameter(name).grad).sum())


def test_every_owner_of_a_shared_parameter_sees_the_replacement():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False))
    model[2].weight = model[0].weight
    before, x = named(model), torch.randn(2, 3)
    with substituted(model, {"0.weight": torch.eye(3)}):
        assert torch.equal(model(x), x.relu().relu())
        assert model[0].weight is model[2].weight
    assert named(model) == before
    assert model[0].weight is model[2].weight


def test_an_error_inside_leaves_the_model_whole():
    model = Recurrent()
    before = named(model)
    with (
        pytest.raises(RuntimeError),
        substituted(model, {"rnn.weight_hh_l0": torch.ones(16, 4), "out.weight": torch.ones(2, 3)}),
    ):
        model(torch.randn(2, 5, 3))
    assert named(model) == before
    model(torch.randn(2, 5, 3))


def test_nothing_to_replace_touches_nothing():
    model = Recurrent()
    with substituted(model, {}):
        assert isinstance(model.out.weight, nn.Parameter)
