"""Trainable thresholds: the estimated slope, gradients and penalty by hand, and the zeros that they leave."""

import numpy as np
import pytest
import torch
from phases import linear, penalty, phase
from torch import nn

from prunelab.errors import ConfigError
from prunelab.training.callbacks.dst import DST, slope, step
from prunelab.training.forward import substituted

WEIGHT = [[0.5, -0.3, 1.8], [-0.2, 0.9, -0.1]]
THRESHOLDS = [0.4, 0.15]


def thresholded(model=None, **options):
    """One Linear layer, of whose weights −0.3 and −0.1 are below their thresholds."""
    model = model or nn.Sequential(linear(WEIGHT, bias=[0.1, 0.2]))
    callback = DST(phase(model), **options)
    with torch.no_grad():
        callback.learned["0.weight"].copy_(torch.tensor(THRESHOLDS).view(-1, 1))
    return model, callback


def test_the_slope_has_a_long_tail():
    x = torch.tensor([0, 0.2, -0.2, 0.4, 0.7, 1, -1, 1.01])
    assert slope(x).tolist() == pytest.approx([2, 1.2, 1.2, 0.4, 0.4, 0.4, 0.4, 0])


def test_a_step_is_zero_or_one_and_has_that_slope():
    x = torch.linspace(-1.5, 1.5, 61, dtype=torch.float64, requires_grad=True)
    y = step(x)
    y.sum().backward()
    assert torch.equal(y, (x > 0).double())
    assert torch.equal(x.grad, slope(x.detach()))


def test_gradients_of_weights_and_thresholds_by_hand():
    """∂L/∂w = g·(M + |w|·H) and ∂L/∂t = −Σ g·w·H over the row, where g = ∂L/∂(w·M)."""
    model, callback = thresholded()
    x, g = torch.tensor([[1.0, -2.0, 3.0]]).double(), np.array([[1.0, -2.0, 3.0]] * 2)
    with substituted(model, callback.substitutes()):
        model(x).sum().backward()
    w, t = np.array(WEIGHT), np.array(THRESHOLDS)[:, None]
    apart = np.abs(np.abs(w) - t)
    estimated = np.where(apart <= 0.4, 2 - 4 * apart, np.where(apart <= 1, 0.4, 0.0))
    assert np.allclose(model[0].weight.grad, g * ((np.abs(w) > t) + np.abs(w) * estimated))
    found = callback.learned["0.weight"].grad
    assert np.allclose(found, -(g * w * estimated).sum(1, keepdims=True))


def test_the_penalty_by_hand():
    _, callback = thresholded(strength=0.5)
    cost = penalty(callback)
    assert cost.item() == pytest.approx(0.5 * (np.exp(-0.4) + np.exp(-0.15)))
    cost.backward()
    assert callback.learned["0.weight"].grad[0, 0].item() == pytest.approx(-0.5 * np.exp(-0.4))


def test_the_weights_that_are_out_end_as_zeros_and_the_output_stays():
    model, callback = thresholded()
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), substituted(model, callback.substitutes()):
        expected = model(x)
    callback.finish()
    assert not callback.substitutes()
    assert torch.equal(model(x), expected)
    assert (model[0].weight == 0).tolist() == [[False, True, False], [False, False, True]]


def test_the_thresholds_of_a_tensor_that_is_nearly_empty_go_back_to_zero():
    model = nn.Sequential(linear(np.linspace(0.01, 1, 100).reshape(4, 25)))
    callback = DST(phase(model))
    for kept, ends in ((2, 0.985), (1, 0.0)):  # of 100; at most 1% is nearly empty
        callback.learned["0.weight"].data.fill_(1 - kept / 100 + 0.005)
        callback.after_step(1)
        assert callback.learned["0.weight"].flatten().tolist() == pytest.approx([ends] * 4)


def test_there_is_one_threshold_per_channel():
    callback = DST(phase(nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(12, 5))))
    assert [list(t.shape) for t in callback.learned.values()] == [[3, 1, 1, 1], [5, 1]]
    assert not any(t.any() for t in callback.learned.values())


@pytest.mark.parametrize("how", [{"strength": -1}, {"lr": 0}])
def test_what_is_out_of_range(how):
    ((key, value),) = how.items()
    with pytest.raises(ConfigError, match=rf"regularizer.{key}={value}: must be a number"):
        thresholded(**how)
