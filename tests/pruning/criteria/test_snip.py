import numpy as np
import torch
from toys import evidence, linear, regression, slope

from prunelab.pruning.criteria.snip import snip


def test_four_weights_by_hand():
    # Equal logits, so p = ½: of x = (1, 3), label 0, g = (p − y) xᵀ = [[-½, -1½], [½, 1½]].
    inputs = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    (score,) = snip(evidence(linear([[1, -2], [1, -2]]), inputs, torch.tensor([0])))
    assert score.tolist() == [[0.5, 3], [0.5, 3]]


def test_the_mean_over_examples_whatever_the_batches():
    w, x, y = regression()
    expected = np.abs(slope(w, x, y) * w)
    for batch_size in (1, 4, 10):  # batches of four leave one of two, which counts half
        (score,) = snip(evidence(linear(w), torch.tensor(x), torch.tensor(y), batch_size=batch_size))
        assert np.allclose(score.numpy(), expected, rtol=1e-12)


def test_it_is_the_slope_in_a_gate_on_each_weight():
    w, x, y = regression(seed=1)

    def loss(gates):
        logits = torch.nn.functional.linear(torch.tensor(x), torch.tensor(w) * gates)
        return torch.nn.functional.cross_entropy(logits, torch.tensor(y))

    gates = torch.autograd.functional.jacobian(loss, torch.ones(w.shape, dtype=torch.float64))
    (score,) = snip(evidence(linear(w), torch.tensor(x), torch.tensor(y)))
    assert torch.allclose(score, gates.abs(), rtol=1e-12)
