import torch
from toys import local_seed, toy

from prunelab.pruning.criteria.random import random


def test_the_experiments_seed_decides():
    given = toy("convolutional")
    with local_seed(3):
        expected = [torch.rand(weight.shape) for weight in given.weights]
    with local_seed(3):
        drawn = random(given)
        again = random(given)
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))
    assert not torch.equal(drawn[0], again[0])


def test_the_weights_do_not_count():
    given = toy("convolutional")
    with local_seed(3):
        before = random(given)
    for weight in given.weights:
        weight.data.zero_()
    with local_seed(3):
        assert all(torch.equal(a, b) for a, b in zip(before, random(given), strict=True))
