"""L1 and the group lasso: by hand, by their slopes, and what they do to a network."""

import dataclasses

import numpy as np
import pytest
import torch
from phases import assert_same_end, linear, penalty, phase, resumed, run
from torch import nn

from prunelab.errors import ConfigError
from prunelab.training.callbacks.group_lasso import GroupLasso
from prunelab.training.callbacks.l0 import L0
from prunelab.training.callbacks.l1 import L1


def test_l1_by_hand():
    model = nn.Sequential(linear([[1, -2], [0, 3]], bias=[5, 5]), linear([[0.5, -0.5]]))
    cost = penalty(L1(phase(model), strength=0.1))
    assert cost.item() == pytest.approx(0.7)  # 0.1 · (1 + 2 + 0 + 3 + 0.5 + 0.5); biases are not prunable
    cost.backward()
    assert torch.allclose(model[0].weight.grad, torch.tensor([[0.1, -0.1], [0, 0.1]]).double())
    assert model[0].bias.grad is None


def test_pruned_weights_cost_nothing():
    model = nn.Sequential(linear([[1, -2], [4, 3]]))
    given = phase(model)
    given.masks["0.weight"].mask[1, 0] = 0
    given.masks.apply()
    for kind, expected in ((L1, [[1, -1], [0, 1]]), (GroupLasso, [[0.2**0.5, -(0.8**0.5)], [0, 1]])):
        model.zero_grad()
        cost = penalty(kind(given, strength=1 if kind is L1 else 0.5**0.5))
        cost.backward()
        assert cost.item() == pytest.approx(6 if kind is L1 else 5**0.5 + 3)
        assert torch.allclose(model[0].weight.grad, torch.tensor(expected).double())


def test_group_lasso_by_hand():
    # √2 · (‖(3, 4)‖ + ‖(0, 0)‖) = √2 · 5; of columns √2 · (3 + 4)
    model = nn.Sequential(linear([[3, 4], [0, 0]]))
    given = phase(model)
    assert penalty(GroupLasso(given, strength=2)).item() == pytest.approx(10 * 2**0.5)
    assert penalty(GroupLasso(given, strength=2, dim=1)).item() == pytest.approx(14 * 2**0.5)


def test_group_lasso_has_slope_zero_at_a_group_of_zeros():
    model = nn.Sequential(linear([[3, 4], [0, 0]]))
    penalty(GroupLasso(phase(model), strength=1)).backward()
    assert torch.allclose(model[0].weight.grad, 2**0.5 * torch.tensor([[0.6, 0.8], [0, 0]]).double())


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_group_lasso_is_the_loop_over_channels(dim):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(16, 5))
    given = phase(model)
    total = 0.0
    for index in (0, 2):
        weight = np.moveaxis(model[index].weight.detach().numpy().astype(np.float64), dim, 0)
        total += sum(group.size**0.5 * np.sqrt((group**2).sum()) for group in weight)
    assert penalty(GroupLasso(given, strength=0.5, dim=dim)).item() == pytest.approx(0.5 * total, rel=1e-5)


def test_a_bias_is_groups_of_one():
    layer = linear([[1, 1]], bias=[-3])
    model = nn.Sequential(layer)
    given = phase(model, pairs=[(layer, "bias")])
    assert penalty(GroupLasso(given, strength=1)).item() == 3


@pytest.mark.parametrize("kind", [L1, GroupLasso, L0])
def test_the_loss_so_far_is_in_it_once(kind):
    callback = kind(phase(nn.Sequential(nn.Linear(3, 2))), strength=0.1)
    loss = torch.tensor(5.0, requires_grad=True)
    objective = callback.objective(loss, None, None)
    objective.backward()
    assert objective.item() == pytest.approx(5 + penalty(callback).item())
    assert loss.grad == 1


@pytest.mark.parametrize("kind", [L1, GroupLasso])
def test_what_cannot_be(kind):
    given = phase(nn.Sequential(linear([[1.0]])))
    with pytest.raises(ConfigError, match=r"regularizer.strength=-1: must be a number ≥ 0"):
        kind(given, strength=-1)
    with pytest.raises(ConfigError, match=r"regularizer=\w+: .*train.epochs=0"):
        kind(dataclasses.replace(given, iterations=0))


def test_a_dimension_that_a_tensor_lacks():
    with pytest.raises(ConfigError, match=r"regularizer.dim=2: must be a dimension of 0.weight, whose shape is"):
        GroupLasso(phase(nn.Sequential(linear([[1.0]]))), dim=2)


@pytest.mark.parametrize("name", ["l1", "group_lasso"])
def test_a_stronger_penalty_makes_smaller_weights(tmp_path, name):
    sizes = []
    for strength in (0, 0.01):
        how = (f"regularizer={name}", f"regularizer.strength={strength}", "train.epochs=2", "finetune.epochs=0")
        result = run(tmp_path, *how, "strategy=threshold", "allocation.threshold=0.01")
        sizes.append(result.rounds[1].sparsity)
    assert sizes[0] < sizes[1]


def test_a_broken_off_run_ends_the_same(tmp_path):
    how = ("regularizer=group_lasso", "regularizer.strength=0.001", "schedule.rounds=1")
    expected = run(tmp_path / "whole", *how)
    assert_same_end(resumed(tmp_path, 3, *how), expected)


def test_the_penalty_reaches_attention():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    given = phase(model)
    penalty(L1(given, strength=1)).backward()
    for item in given.masks:
        assert torch.equal(item.parameter.grad, item.parameter.sign())


def test_a_tensor_that_is_not_selected_costs_nothing():
    model = nn.Sequential(linear([[1, -2]], bias=[5]))
    given = phase(model, pairs=[(model[0], "weight"), (model[0], "bias")])
    for kind in (L1, GroupLasso):
        both, one = (penalty(kind(one)) for one in (given, dataclasses.replace(given, tensors=["0.weight"])))
        both.backward()
        assert model[0].bias.grad
        model.zero_grad()
        one.backward()
        assert model[0].bias.grad is None
