import pytest
import torch
from toys import evidence, linear

from prunelab.config.schema import ConfigError
from prunelab.pruning.criteria.movement import movement


def test_what_moves_towards_zero_goes_first():
    given = evidence(linear([[9, 9], [1, 1]]), torch.ones(1, 2), movement=[torch.tensor([[-2.0, 0.5], [0.0, 3.0]])])
    assert movement(given)[0].tolist() == [[0, 2.5], [2, 5]]


def test_one_zero_for_all_tensors():
    model = torch.nn.Sequential(linear([[1, 1]]), linear([[1]]))
    moved = [torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0]])]
    first, second = movement(evidence(model, torch.ones(1, 2), movement=moved))
    assert (first.tolist(), second.tolist()) == ([[2, 3]], [[0]])


def test_small_differences_survive_the_shift():
    moved = torch.tensor([[-1000.0, 1e-9, 2e-9]])
    (score,) = movement(evidence(linear([[1, 1, 1]]), torch.ones(1, 3), movement=[moved]))
    assert score[0, 2] > score[0, 1]


def test_training_must_watch_it():
    assert movement.watches == "movement"


def test_without_training_there_is_nothing_to_go_by():
    with pytest.raises(ConfigError, match=r"movement scores .* train.epochs=0 leaves nothing to go by"):
        movement(evidence(linear([[1]]), torch.ones(1, 1)))
