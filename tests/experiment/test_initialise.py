"""Initialisations by name: the standard deviation by hand, zero biases, untouched norms."""

import math

import pytest
import torch
from torch import nn

from prunelab.config.keys import INITIALISATIONS
from prunelab.experiment.initialise import DRAWS, initialise

IN, OUT, SIDE = 40, 60, 5
FANS = {"linear": (400, 300), "conv": (IN * SIDE * SIDE, OUT * SIDE * SIDE)}
STD = {
    "glorot_normal": lambda i, o: math.sqrt(2 / (i + o)),
    "glorot_uniform": lambda i, o: math.sqrt(2 / (i + o)),
    "he_normal": lambda i, o: math.sqrt(2 / i),
    "he_uniform": lambda i, o: math.sqrt(2 / i),
    "lecun_normal": lambda i, o: math.sqrt(1 / i),
    "orthogonal": lambda i, o: math.sqrt(1 / i),  # rows of length 1, if there are no more of them than columns
}


@pytest.mark.parametrize("name", INITIALISATIONS)
@pytest.mark.parametrize("kind", FANS)
def test_the_standard_deviation_is_the_papers(name, kind):
    torch.manual_seed(0)
    model = nn.Linear(*FANS["linear"]) if kind == "linear" else nn.Conv2d(IN, OUT, SIDE)
    initialise(model, name)
    assert float(model.weight.detach().std()) == pytest.approx(STD[name](*FANS[kind]), rel=0.02)
    assert float(model.bias.detach().abs().sum()) == 0


def test_the_names_of_the_config_are_those_that_there_are():
    assert set(DRAWS) == set(INITIALISATIONS) == set(STD)


def test_norms_and_other_parameters_keep_their_values():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.full((1, 3, 4), 7.0))
            self.norm, self.lstm = nn.BatchNorm2d(4), nn.LSTM(4, 3)

    model = Net()
    before = model.lstm.weight_hh_l0.detach().clone()
    initialise(model, "he_normal")
    assert (model.token == 7).all()
    assert (model.norm.weight == 1).all()
    assert not torch.equal(model.lstm.weight_hh_l0, before)
    assert (model.lstm.bias_ih_l0 == 0).all()
