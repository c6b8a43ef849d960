import numpy as np
import pytest
import torch
from torch import nn
from toys import evidence, linear, local_seed, probabilities, regression, slope, toy

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.obd import obd


class AgainstZero(nn.Module):
    """Two logits: f(w·x) and 0, so that p = sigmoid(f(w·x))."""

    def __init__(self, weights, f=lambda z: z):
        super().__init__()
        self.layer, self.f = linear([weights]), f

    def forward(self, x):
        z = self.f(self.layer(x))
        return torch.cat([z, torch.zeros_like(z)], 1)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_fisher_of_four_weights_by_hand():
    # Equal logits, so p = ½: of x = (1, 3), g = ±[[½, 1½], [½, 1½]], squared the same for both labels.
    inputs = torch.tensor([[1.0, 3.0]] * 2, dtype=torch.float64)
    (score,) = obd(evidence(linear([[1, 2], [1, 2]]), inputs, torch.tensor([0, 1])))
    assert score.tolist() == [[0.125, 4.5], [0.125, 4.5]]


@pytest.mark.parametrize("examples", [10, 7])
def test_fisher_is_the_loop_over_single_examples(examples):
    w, x, y = regression()
    squares = [slope(w, x[i : i + 1], y[i : i + 1]) ** 2 for i in range(examples)]
    (score,) = obd(evidence(linear(w), torch.tensor(x), torch.tensor(y)), examples=examples)
    assert np.allclose(score.numpy(), np.mean(squares, 0) * w**2 / 2, rtol=1e-12)


def test_hutchinson_is_exact_for_a_diagonal_hessian():
    # One feature of each example is not 0, so no two weights meet.
    w, x = np.array([0.5, -1.0, 2.0, 0.1]), np.diag([1.0, 2.0, 0.5, 3.0])
    (score,) = obd(evidence(AgainstZero(w), torch.tensor(x)), hessian="hutchinson", samples=1)
    p = sigmoid(x @ w)
    assert np.allclose(score.numpy(), [(p * (1 - p)) @ x**2 / 4 * w**2 / 2], rtol=1e-12)


def test_negative_curvature_is_no_saving():
    # L = −log p of label 0, z = (w x)²: L″ = p(1−p) (2 w x²)² − (1−p) 2 x², below 0 here.
    w, x = 0.1, 2.0
    p = sigmoid((w * x) ** 2)
    curvature = p * (1 - p) * (2 * w * x**2) ** 2 - (1 - p) * 2 * x**2
    assert curvature < 0
    model = AgainstZero([w], torch.square)
    (score,) = obd(evidence(model, torch.tensor([[x]], dtype=torch.float64)), hessian="hutchinson", samples=1)
    assert score.item() == pytest.approx(-curvature * w**2 / 2, rel=1e-12)


def test_pruned_weights_add_no_noise():
    w, x, y = regression()
    mask = np.zeros(w.shape, bool)
    mask[1, 2] = True
    given = evidence(linear(w * mask), torch.tensor(x), torch.tensor(y), masks=[torch.tensor(mask)])
    (score,) = obd(given, hessian="hutchinson", samples=1)
    p = probabilities(w * mask, x)[:, 1]
    assert score[1, 2].item() == pytest.approx((p * (1 - p) * x[:, 2] ** 2).mean() * w[1, 2] ** 2 / 2, rel=1e-12)


def test_hutchinson_approaches_the_diagonal_of_the_exact_hessian():
    given = toy("perceptron", torch.float64)
    inputs, labels = (torch.cat(part) for part in zip(*given.batches(10), strict=True))
    given = evidence(given.model, inputs, labels, batch_size=10)
    first, second = given.model[0], given.model[2]

    def loss(a, b):
        hidden = torch.relu(inputs @ a.T + first.bias)
        return nn.functional.cross_entropy(hidden @ b.T + second.bias, labels)

    weights = tuple(weight.detach() for weight in given.weights)
    blocks = torch.autograd.functional.hessian(loss, weights)
    sizes = [weight.numel() for weight in weights]
    whole = torch.cat([torch.cat([b.reshape(n, -1) for b in row], 1) for n, row in zip(sizes, blocks, strict=True)])
    # One sample is H_ii + Σ_j≠i v_i v_j H_ij: unbiased, with a variance of Σ_j≠i H_ij².
    error = ((whole.square().sum(1) - whole.diagonal().square()) / 2000).sqrt()
    square = torch.cat([weight.flatten() for weight in weights]).square()
    with local_seed(0):
        scores = torch.cat([score.flatten() for score in obd(given, hessian="hutchinson", samples=2000)])
    off = (scores - whole.diagonal().abs() * square / 2).abs()
    assert (off <= 4 * error * square / 2 + 1e-15).all()
    assert (error * square).max() < 0.1 * (whole.diagonal().abs() * square).max()  # so this can fail


def test_options_are_checked():
    given = toy("perceptron")
    with pytest.raises(ConfigError, match=r"criterion.hessian=exact: must be fisher or hutchinson"):
        obd(given, hessian="exact")
    with pytest.raises(ConfigError, match=r"criterion.samples=0: must be a whole number ≥ 1"):
        obd(given, hessian="hutchinson", samples=0)
    with pytest.raises(ConfigError, match=r"criterion.examples=0: must be a whole number ≥ 1"):
        obd(given, examples=0)
