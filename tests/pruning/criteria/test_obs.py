import numpy as np
import torch
from test_wanda import double, normal
from torch import nn
from toys import evidence, linear

from prunelab.pruning.criteria.obs import obs
from prunelab.pruning.reconstruction import DAMPING, least_squares


def damped(x):
    h = 2 * x.T @ x / len(x)
    return h + DAMPING * np.trace(h) / len(h) * np.eye(len(h))


def test_by_hand_with_an_inverse_of_numpy():
    w, x = normal(3, 4).numpy(), normal(10, 4, seed=2).numpy()
    (score,) = obs(evidence(linear(w), torch.tensor(x)), examples=7)
    assert np.allclose(score.numpy(), w**2 / np.diag(np.linalg.inv(damped(x[:7]))) / 2, rtol=1e-9)


def test_a_pruned_row_is_scored_by_what_is_left_of_it():
    w, x, mask = normal(2, 5).numpy(), normal(9, 5, seed=2).numpy(), np.array([[1, 0, 1, 1, 0], [1, 1, 1, 1, 1]])
    (score,) = obs(evidence(linear(w), torch.tensor(x), masks=[torch.tensor(mask)]))
    left = np.flatnonzero(mask[0])
    inverse = np.linalg.inv(damped(x)[np.ix_(left, left)])
    assert np.allclose(score[0, left].numpy(), w[0, left] ** 2 / np.diag(inverse) / 2, rtol=1e-9)
    assert not score[0, [1, 4]].any()


def test_the_score_is_the_error_that_the_best_update_leaves():
    """Of each weight of a grouped convolution: remove it, solve for the rest, and measure the rise."""
    conv = double(lambda: nn.Conv2d(4, 4, 2, groups=2, bias=False))
    x = normal(5, 4, 3, 3, seed=4)
    (score,) = obs(evidence(conv, x))
    for o in range(4):
        patches = nn.functional.unfold(x[:, 2 * (o // 2) : 2 * (o // 2) + 2], 2).mT.reshape(-1, 8).numpy()
        h = 2 * patches.T @ patches / len(x)
        h += DAMPING * np.trace(h) / 8 * np.eye(8)
        row = conv.weight[o].detach().reshape(1, -1)
        for q in range(8):
            change = (least_squares(row, torch.arange(8)[None] != q, torch.tensor(h)[None]) - row).numpy()
            assert np.isclose(float(score[o].flatten()[q]), (change @ h @ change.T).item() / 2, rtol=1e-8)
