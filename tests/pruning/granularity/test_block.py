"""granularity=block: rectangles of the weight seen as a matrix."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    amount_each_round,
    block_oracle,
    blocks,
    few,
    flat,
    goes,
    in_rounds,
    integers,
    now,
    pruned,
    pruner,
    put,
    put_masks,
    seeds,
    shapes,
)
from torch import nn

from prunelab.errors import ConfigError
from prunelab.models.lenet import LeNet
from prunelab.pruning.granularity.block import Block
from prunelab.pruning.pruner import Pruner

sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))
scopes = st.sampled_from(["local", "global"])


def by_blocks(shapes, size, allocation="local"):
    return pruner(shapes, allocation, Block(size))


@few
@given(shapes, amount_each_round, seeds, sizes, scopes, st.booleans())
def test_block_is_the_oracle(shapes, plan, seed, size, scope, scattered):
    oracle = functools.partial(block_oracle, size=size, scope=scope)
    in_rounds(by_blocks(shapes, list(size), scope), oracle, plan, seed, scattered)


def test_blocks_of_a_ragged_matrix_by_hand():
    # means, of the four corners: 1, 5; 4, 2 (one weight)
    found = by_blocks([(3, 3)], [2, 2])
    put(found, [np.array([[1, 1, 5], [1, 1, 5], [4, 4, -2]])])
    for amount, expected in [
        (0.25, [[0, 0, 1], [0, 0, 1], [1, 1, 1]]),
        (1 / 3, [[0, 0, 1], [0, 0, 1], [1, 1, 0]]),  # of the three that live
        (0.9, [[0, 0, 1], [0, 0, 1], [0, 0, 0]]),  # never the last
        (0.9, [[0, 0, 1], [0, 0, 1], [0, 0, 0]]),
    ]:
        assert pruned(found, amount)[0].tolist() == expected


def test_a_block_s_score_is_the_mean_of_what_is_left_of_it():
    # left block: mean of 4 alone, or 1 if its pruned weights counted; right block: mean 2
    found = by_blocks([(2, 4)], [2, 2])
    put_masks(found, [np.array([[1, 0, 1, 1], [0, 0, 1, 1]])])
    put(found, [np.array([[4, 9, 2, 2], [9, 9, 2, 2]])])
    assert pruned(found, 0.5)[0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]


def test_a_block_without_weights_counts_no_more():
    found = by_blocks([(1, 4)], [1, 1])
    put_masks(found, [np.array([[0, 1, 1, 1]])])
    put(found, [np.array([[0, 1, 2, 3]])])
    found.prune(1 / 3)
    assert flat(found) == [0, 0, 1, 1]


def test_of_equal_blocks_the_first_goes_and_a_convolution_s_blocks_run_over_the_kernel():
    found = by_blocks([(2, 1, 2, 2)], [1, 2])  # a matrix [2, 4]
    put(found, [np.ones((2, 1, 2, 2))])
    assert pruned(found, 0.5)[0].tolist() == [[[[0, 0], [0, 0]]], [[[1, 1], [1, 1]]]]


def test_locally_of_each_tensor_and_globally_of_all_but_a_tensor_s_best():
    weights = [np.array([[1, 1, 2, 2]]), np.array([[3, 3, 4, 4]])]
    for scope, expected in [("local", [0, 0, 1, 1, 0, 0, 1, 1]), ("global", [0, 0, 1, 1, 1, 1, 1, 1])]:
        found = by_blocks([(1, 4), (1, 4)], [1, 2], scope)
        put(found, weights)
        pruned(found, 0.5 if scope == "local" else 0.25)
        assert flat(found) == expected
    pruned(found, 0.9)
    assert flat(found) == [0, 0, 1, 1, 0, 0, 1, 1]


@few
@given(shapes, st.floats(0, 0.99), seeds, sizes)
def test_exactly_round_amount_n_of_the_living_blocks_go_whole(shapes, amount, seed, size):
    found = by_blocks(shapes, list(size))
    put(found, integers(shapes, seed))
    for _ in range(2):
        old = now(found)
        for before, after in zip(old, pruned(found, amount), strict=True):
            was, is_ = (mask.reshape(len(mask), -1) for mask in (before, after))
            alive = [bool(is_[cut].any()) for cut in blocks(is_, size)]
            n = sum(bool(was[cut].any()) for cut in blocks(was, size))
            assert n - sum(alive) == goes(amount, n)
            assert alive == [bool(is_[cut].all()) for cut in blocks(is_, size)]


@pytest.mark.parametrize("size", [4, [4], [4, 4, 4], [0, 4], [4, -1], [1.5, 4], [True, 4], "44", [4, "4"], None])
def test_block_refuses_what_is_no_size(size):
    with pytest.raises(ConfigError, match=r"granularity\.size="):
        Block(size)


def test_block_refuses_a_bias():
    with pytest.raises(ConfigError, match=r"granularity\.size=\[2, 2\]: 0\.bias has shape \[4\]"):
        Pruner(nn.Sequential(nn.Linear(2, 4)), granularity=Block([2, 2]), include=["0.bias"])


def test_lenet_in_blocks():
    found = Pruner(LeNet(), granularity=Block([2, 3]), allocation="local")
    found.prune(0.5)
    matrix = found.masks["fc3.weight"].kept.numpy()
    alive = [bool(matrix[cut].any()) for cut in blocks(matrix, (2, 3))]
    assert sum(alive) == len(alive) - round(0.5 * len(alive))


def test_the_weights_of_a_block():
    ragged, even = by_blocks([(4, 4), (3, 4)], [2, 2]).items[::-1]
    assert (Block([2, 2]).weights_per_unit(even), Block([2, 2]).weights_per_unit(ragged)) == (4, None)
