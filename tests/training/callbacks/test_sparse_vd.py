"""Variational dropout: the divergence against its integral, the noise against the weights' own, and what is left."""

import math

import numpy as np
import pytest
import torch
from phases import linear, penalty, phase
from torch import nn

from prunelab.errors import ConfigError
from prunelab.training.callbacks.sparse_vd import SparseVD, divergence
from prunelab.training.forward import substituted

MEAN_OF_LOG = -(math.log(2) + 0.5772156649) / 2  # of |z|, z standard normal


@pytest.mark.parametrize("log_alpha", [-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 7.0])
def test_the_divergence_is_close_to_its_integral(log_alpha):
    """E log|1 + √α·z| − ½·log α, minus its limit for α = ∞; the paper's fit is within 0.01."""
    z = (np.arange(1_000_000) + 0.5) * 2.4e-5 - 12
    logs = np.log(np.abs(1 + math.exp(log_alpha / 2) * z))
    mean = (logs * np.exp(-(z**2) / 2)).sum() * 2.4e-5 / math.sqrt(2 * math.pi)
    assert divergence(torch.tensor(log_alpha)).item() == pytest.approx(mean - log_alpha / 2 - MEAN_OF_LOG, abs=0.01)


LAYERS = [
    (lambda: nn.Linear(4, 3), (2, 4)),
    (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), (2, 2, 5, 5)),
    (lambda: nn.Conv1d(2, 3, 2, dilation=2), (2, 2, 6)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=["linear", "conv2d", "conv1d"])
def test_outputs_vary_as_noise_on_the_weights_would_make_them(make, shape):
    """Var y = Σ (∂y/∂w)²·σ² for independent weights."""
    torch.manual_seed(0)
    layer = make().double()
    model, x = nn.Sequential(layer), torch.randn(shape).double()
    slopes = torch.autograd.functional.jacobian(
        lambda weight: torch.func.functional_call(model, {"0.weight": weight}, x), layer.weight
    )
    callback = SparseVD(phase(model))
    variance = torch.rand(layer.weight.shape).double()
    callback.learned["0.weight"].data = variance.log()
    expected = (slopes.square() * variance).flatten(x.dim()).sum(-1)
    with torch.no_grad():
        mean = model.eval()(x)
        torch.manual_seed(1)
        found = model.train()(x)
        torch.manual_seed(1)
        noise = torch.randn_like(mean)
    assert torch.allclose((found - mean) / noise, expected.sqrt(), atol=1e-6)


def test_other_layers_draw_their_weights():
    model = nn.LSTM(3, 2, batch_first=True)
    callback = SparseVD(phase(model), log_sigma2=-4, threshold=99)
    torch.manual_seed(0)
    drawn = torch.stack([callback.substitutes()["weight_ih_l0"] for _ in range(2000)])
    assert torch.allclose(drawn.std(0), torch.tensor(math.exp(-2)), rtol=0.15)
    assert torch.allclose(drawn.mean(0), model.weight_ih_l0, atol=0.02)
    model.eval()
    assert torch.equal(callback.substitutes()["weight_ih_l0"], model.weight_ih_l0)


def small(**options):
    """α = σ²/w² is e⁻², e⁴, e³⁺ and e¹: the second and third weight are all noise."""
    model = nn.Sequential(linear([[1.0, -math.exp(-3), math.exp(-2.51), -math.exp(-1.5)]]))
    return model, SparseVD(phase(model, iterations=100), log_sigma2=-2.0, **options)


def test_weights_that_are_all_noise_end_as_zeros_and_the_output_stays():
    model, callback = small()
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).double()
    with torch.no_grad(), substituted(model.eval(), callback.substitutes()):
        expected = model(x)
    callback.finish()
    assert torch.equal(model(x), expected)
    assert (model[0].weight == 0).tolist() == [[False, True, True, False]]
    assert not callback.substitutes()
    assert not model[0]._forward_hooks


@pytest.mark.parametrize(("done", "factor"), [(0, 0), (20, 0), (30, 0.5), (40, 1), (90, 1)])
def test_the_divergence_comes_in_gradually(done, factor):
    model, callback = small(strength=0.1, start=0.2, full=0.4)
    model(torch.ones(1, 4).double())
    callback.after_step(done)
    expected = sum(divergence(torch.tensor(value)).item() for value in (-2.0, 4.0, 3.02, 1.0))
    assert penalty(callback).item() == pytest.approx(0.1 * factor * expected, rel=1e-5)


def test_a_weight_at_zero_has_finite_gradients():
    model = nn.Sequential(linear([[0.0, 1.0]]))
    callback = SparseVD(phase(model), start=0)
    callback.after_step(9)
    with substituted(model.train(), callback.substitutes()):
        penalty_and_loss = callback.objective(model(torch.zeros(1, 2).double()).sum(), None, None)
    penalty_and_loss.backward()
    assert model[0].weight.grad.isfinite().all()
    assert callback.learned["0.weight"].grad.isfinite().all()


def test_a_layer_that_is_not_called_is_refused():
    callback = SparseVD(phase(nn.Sequential(nn.Linear(3, 2))))
    with pytest.raises(ConfigError, match=r"sparse_vd: 0.weight: its layer is not called"):
        penalty(callback)


@pytest.mark.parametrize(("key", "value"), [("strength", -1), ("start", 1), ("full", 0), ("threshold", "x"), ("lr", 0)])
def test_what_is_out_of_range(key, value):
    with pytest.raises(ConfigError, match=rf"regularizer.{key}={value}: must be"):
        small(**{key: value})
