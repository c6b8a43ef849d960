import copy

import numpy as np
import pytest
import torch
from torch import nn
from toys import MODELS, evidence, gradients, hessian_times, linear, regression, slope, toy

from prunelab.errors import ConfigError
from prunelab.pruning.criteria import base as criteria
from prunelab.pruning.criteria.grasp import grasp


def least_zero(array):
    return array - array.min()


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_softmax_regression_by_numpy(temperature):
    w, x, y = regression()
    (score,) = grasp(evidence(linear(w), torch.tensor(x), torch.tensor(y)), temperature=temperature)
    product = hessian_times(w, x, slope(w, x, y, temperature), temperature)
    assert np.allclose(score.numpy(), least_zero(w * product), rtol=1e-9, atol=1e-22)


def test_pruned_weights_do_not_count_in_the_gradient():
    w, x, y = regression()
    mask = np.random.default_rng(5).random(w.shape) < 0.5
    w = w * mask
    given = evidence(linear(w), torch.tensor(x), torch.tensor(y), masks=[torch.tensor(mask)])
    expected = least_zero(w * hessian_times(w, x, slope(w, x, y) * mask))
    assert np.allclose(grasp(given, temperature=1.0)[0].numpy(), expected, rtol=1e-9, atol=1e-15)


def test_what_goes_first_takes_least_from_the_gradient_norm_or_adds_to_it():
    w, x, y = regression(seed=2)

    def norm(w):
        return (slope(w, x, y) ** 2).sum() / 2

    effect = np.zeros_like(w)  # of making one weight smaller, on ½‖g‖²: the paper's S
    for index in np.ndindex(w.shape):
        smaller, larger = w.copy(), w.copy()
        smaller[index] *= 1 - 1e-5
        larger[index] *= 1 + 1e-5
        effect[index] = (norm(smaller) - norm(larger)) / 2e-5
    (score,) = grasp(evidence(linear(w), torch.tensor(x), torch.tensor(y)), temperature=1.0)
    assert np.allclose(score.numpy(), least_zero(-effect), rtol=1e-5, atol=1e-9)
    assert score.argmin() == effect.argmax()


@pytest.mark.parametrize("name", MODELS)
def test_by_finite_differences_of_the_gradient(name):
    given = toy(name, torch.float64)
    ((inputs, labels),) = [(torch.cat(i), torch.cat(l)) for i, l in [zip(*given.batches(10), strict=True)]]
    slopes = gradients(given.model, given.weights, inputs, labels)
    ends = []
    for step in (1e-5, -1e-5):
        moved = copy.deepcopy(given.model)
        weights = [parameter for parameter in moved.parameters() if parameter.dim() > 1]
        with torch.no_grad():
            for weight, along in zip(weights, slopes, strict=True):
                weight += step * along
        ends.append(gradients(moved, weights, inputs, labels))
    raw = [w.detach() * (a - b) / 2e-5 for w, a, b in zip(given.weights, *ends, strict=True)]
    least = min(float(r.min()) for r in raw)
    largest = max(float(r.abs().max()) for r in raw)
    for score, expected in zip(grasp(given, temperature=1.0), raw, strict=True):
        assert torch.allclose(score, expected - least, rtol=1e-5, atol=1e-6 * largest)


def test_a_module_without_second_derivatives_is_named(monkeypatch):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, slope):
            raise NotImplementedError("derivative for '_once_backward' is not implemented")

    class OnceOnly(nn.Module):
        def forward(self, x):
            return Once.apply(x)

    given = evidence(nn.Sequential(nn.Linear(2, 2), OnceOnly()), torch.ones(1, 2))
    with pytest.raises(ConfigError, match=r"second derivatives, which torch lacks .* OnceOnly"):
        criteria.hessian_product(given, [torch.ones(2, 2)], 1)


def test_other_errors_stay_what_they_are():
    given = evidence(nn.Linear(3, 2), torch.ones(1, 2))
    with pytest.raises(RuntimeError, match="shapes"):
        grasp(given)


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_temperature_is_checked(temperature):
    with pytest.raises(ConfigError, match=rf"criterion.temperature={temperature}: must be a number > 0"):
        grasp(toy("perceptron"), temperature=temperature)
