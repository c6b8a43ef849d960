"""granularity=kernel: the weights between one input and one output channel."""

import numpy as np
import pytest
from oracles import goes, in_rounds, integers, l1_oracle, now, pruned, pruner, put, put_masks
from torch import nn

from prunelab.errors import ConfigError
from prunelab.pruning.pruner import Pruner

SHAPES = [(3, 2, 2, 2), (4, 3)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("amount", [0.0, 0.3, 0.5, 0.9])
def test_kernels_go_by_the_sum_of_their_weights(seed, amount):
    """All kernels of a tensor have equally many weights, so that sums, zeros included, rank as means do."""

    def oracle(weights, old, amount):
        sums = [np.abs(w * m).reshape(*m.shape[:2], -1).sum(2) for w, m in zip(weights, old, strict=True)]
        alive = [m.reshape(*m.shape[:2], -1).any(2) for m in old]
        kept = l1_oracle(sums, alive, amount)
        return [
            m & k.reshape(*k.shape, *[1] * (m.ndim - 2)) if m.ndim > 2 else m & k
            for m, k in zip(old, kept, strict=True)
        ]

    in_rounds(pruner(SHAPES, granularity="kernel"), oracle, [amount, amount], seed, scattered=True)


def test_globally_kernels_compare_by_their_means():
    found = pruner([(1, 2, 2, 2), (1, 2)], "global", "kernel")
    put(found, [np.array([[np.full((2, 2), 2.0), np.full((2, 2), 4.0)]]), np.array([[3, 5]])])
    assert [mask.any((0, *range(2, mask.ndim))).tolist() for mask in pruned(found, 0.5)] == [[0, 1], [0, 1]]


def test_pruned_weights_count_as_zeros():
    found = pruner([(1, 2, 1, 4)], granularity="kernel")
    put_masks(found, [np.array([[[[0, 0, 0, 1]], [[1, 1, 1, 1]]]])])
    put(found, [np.array([[[[9, 9, 9, 7]], [[2, 2, 2, 2]]]])])
    assert pruned(found, 0.5)[0].reshape(2, 4).any(1).tolist() == [0, 1]


def test_kernels_go_whole_and_exactly():
    found = pruner([(5, 4, 3, 3)], granularity="kernel")
    put(found, integers([(5, 4, 3, 3)], seed=0))
    kernels = pruned(found, 0.3)[0].reshape(20, 9)
    assert np.array_equal(kernels.any(1), kernels.all(1))
    assert 20 - kernels.any(1).sum() == goes(0.3, 20)


def test_a_bias_has_no_kernels():
    with pytest.raises(ConfigError, match=r"granularity=kernel: 0\.bias has shape \[4\]"):
        Pruner(nn.Sequential(nn.Linear(2, 4)), granularity="kernel", include=["0.bias"])


def test_a_linear_layer_s_kernel_is_a_weight():
    found = pruner([(4, 4)], granularity="kernel")
    assert pruned(found, 0.25)[0].sum() == 12
    assert now(found)[0].shape == (4, 4)
