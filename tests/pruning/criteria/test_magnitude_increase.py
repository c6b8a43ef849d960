import torch
from toys import evidence, linear

from prunelab.pruning.criteria.magnitude_increase import MagnitudeIncrease


def test_four_weights_by_hand():
    # |w| − |initial| = 1, −3, 0, 3 for weights that changed sign or not.
    given = evidence(linear([[-2, 1], [5, -4]]), torch.ones(1, 2), initial=[torch.tensor([[1.0, -4], [-5, 1]])])
    assert MagnitudeIncrease()(given)[0].tolist() == [[4, 0], [3, 6]]


def test_one_zero_for_all_tensors():
    model = torch.nn.Sequential(linear([[1, 1]]), linear([[1]]))
    initial = [torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0]])]
    first, second = MagnitudeIncrease()(evidence(model, torch.ones(1, 2), initial=initial))
    assert (first.tolist(), second.tolist()) == ([[4, 2]], [[0]])


def test_small_differences_survive_the_shift():
    model = linear([[0, 1e-9, 2e-9]]).float()
    initial = [torch.tensor([[1000.0, 0, 0]])]
    (score,) = MagnitudeIncrease()(evidence(model, torch.ones(1, 3), initial=initial))
    assert score[0, 2] > score[0, 1] > score[0, 0]


def test_the_weights_themselves_do_not_count():
    (score,) = MagnitudeIncrease()(evidence(linear([[1, -7]]), torch.ones(1, 2)))
    assert score.tolist() == [[0, 0]]
