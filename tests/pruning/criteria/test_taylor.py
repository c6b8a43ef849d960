import numpy as np
import pytest
import torch
from toys import evidence, linear, regression, slope

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.snip import snip
from prunelab.pruning.criteria.taylor import taylor


def undecided(*labels):
    """Equal logits, so p = ½: of x = (1, 3), label 0, g = (p − y) xᵀ = [[-½, -1½], [½, 1½]]; label 1: the negative."""
    inputs = torch.tensor([[1.0, 3.0]] * len(labels), dtype=torch.float64)
    return evidence(linear([[1, 2], [1, 2]]), inputs, torch.tensor(labels), batch_size=1)


def test_four_weights_by_hand():
    (score,) = taylor(undecided(0))
    assert score.tolist() == [[0.25, 9], [0.25, 9]]


def test_opposite_batches_do_not_cancel_as_they_do_in_snip():
    assert taylor(undecided(0, 1))[0].tolist() == [[0.25, 9], [0.25, 9]]
    assert snip(undecided(0, 1))[0].tolist() == [[0, 0], [0, 0]]


def test_the_mean_over_batches_of_numpy():
    w, x, y = regression()
    (score,) = taylor(evidence(linear(w), torch.tensor(x), torch.tensor(y), batch_size=4))
    batches = [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert np.allclose(score.numpy(), np.mean([(slope(w, x[b], y[b]) * w) ** 2 for b in batches], 0), rtol=1e-12)


def test_only_so_many_examples_are_looked_at():
    w, x, y = regression()
    (score,) = taylor(evidence(linear(w), torch.tensor(x), torch.tensor(y)), examples=3)
    assert np.allclose(score.numpy(), (slope(w, x[:3], y[:3]) * w) ** 2, rtol=1e-12)


def test_squares_too_small_for_float32_still_differ():
    layer = linear([[1e-26, 2e-26], [0, 0]]).float()  # equal logits but for 1e-26; (g·w)² is about 1e-53
    (score,) = taylor(evidence(layer, torch.ones(1, 2)))
    assert score[0, 1] > score[0, 0] > 0


@pytest.mark.parametrize("examples", [0, -1, 1.5, True])
def test_examples_are_checked(examples):
    with pytest.raises(ConfigError, match=rf"criterion.examples={examples}: must be a whole number ≥ 1"):
        taylor(undecided(0), examples=examples)
