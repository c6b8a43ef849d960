"""criterion=movement: −∂L/∂w · w, added up before each optimizer step."""

import gc
import itertools

import pytest
import torch
from torch import nn
from toys import evidence, linear

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.movement import Movement
from prunelab.pruning.pruner import Pruner


def scored(model, *moved):
    criterion, given = Movement(), evidence(model, torch.ones(1, 2))
    criterion.load(dict(zip(given.names, moved, strict=False)))
    return criterion(given)


def test_what_moves_towards_zero_goes_first():
    assert scored(linear([[9, 9], [1, 1]]), torch.tensor([[-2.0, 0.5], [0.0, 3.0]]))[0].tolist() == [[0, 2.5], [2, 5]]


def test_one_zero_for_all_tensors():
    model = nn.Sequential(linear([[1, 1]]), linear([[1]]))
    first, second = scored(model, torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0]]))
    assert (first.tolist(), second.tolist()) == ([[2, 3]], [[0]])


def test_small_differences_survive_the_shift():
    (score,) = scored(linear([[1, 1, 1]]), torch.tensor([[-1000.0, 1e-9, 2e-9]]))
    assert score[0, 2] > score[0, 1]


def test_without_training_there_is_nothing_to_go_by():
    with pytest.raises(ConfigError, match=r"criterion=movement: needs optimizer steps before each pruning"):
        scored(linear([[1]]))


def trained(model, pruner, steps, lr=0.1):
    """Plain SGD; −∂L/∂w = (w_after − w_before) / lr, so that the sum is known from the weights alone."""
    optimizer, path = torch.optim.SGD(model.parameters(), lr), [model[0].weight.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.ones(1, 3)) ** 2).sum().backward()
        optimizer.step()
        path.append(model[0].weight.detach().clone())
    return sum((after - before) / lr * before for before, after in itertools.pairwise(path))


def test_the_sum_is_what_plain_sgd_shows():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4))
    pruner = Pruner(model, "movement", allocation="local")
    expected = trained(model, pruner, 5)
    (score,) = pruner.score()
    assert torch.allclose(score, (expected - expected.min()).double(), atol=1e-5)
    pruner.prune(0.5)
    with pytest.raises(ConfigError, match="needs optimizer steps"):
        pruner.prune(0.5)  # each round has its own sum
    trained(model, pruner, 1)
    pruner.prune(0.5)


def test_other_models_optimizers_do_not_count():
    model = nn.Sequential(nn.Linear(3, 4))
    pruner = Pruner(model, "movement", allocation="local")
    other = nn.Sequential(nn.Linear(3, 4))
    trained(other, None, 2)
    with pytest.raises(ConfigError, match="needs optimizer steps"):
        pruner.prune(0.5)


def test_what_is_recorded_goes_through_a_checkpoint():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4))
    pruner = Pruner(model, "movement", allocation="local")
    trained(model, pruner, 2)
    state, expected = pruner.criterion.state(), pruner.score()
    pruner.criterion.load({})
    pruner.criterion.load(state)
    assert torch.equal(pruner.score()[0], expected[0])


def test_a_pruning_that_is_undone_leaves_what_is_recorded():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4))
    pruner = Pruner(model, "movement", allocation="local")
    trained(model, pruner, 2)
    expected = pruner.score()
    with pruner.undone():
        pruner.prune(0.5)
    assert torch.equal(pruner.score()[0], expected[0])


def test_detach_stops_recording():
    model = nn.Sequential(nn.Linear(3, 4))
    pruner = Pruner(model, "movement", allocation="local")
    pruner.detach()
    trained(model, pruner, 1)
    assert pruner.criterion.state() == {}
    gc.collect()
