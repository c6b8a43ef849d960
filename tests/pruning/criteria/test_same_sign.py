import torch
from toys import evidence, linear

from prunelab.pruning.criteria.same_sign import SameSign


def test_weights_that_have_changed_their_sign_score_zero():
    initial = [torch.tensor([[1.0, -4, 0.1], [-5, 1, -1]])]
    given = evidence(linear([[-2, -1, 7], [-3, 4, 5]]), torch.ones(1, 3), initial=initial)
    assert SameSign()(given)[0].tolist() == [[0, 1, 7], [3, 4, 0]]


def test_without_training_it_is_the_magnitude():
    (score,) = SameSign()(evidence(linear([[1, -7]]), torch.ones(1, 2)))
    assert score.tolist() == [[1, 7]]
