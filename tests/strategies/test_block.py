"""`block`: rectangles of the weight seen as a matrix."""

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
    network,
    now,
    put,
    put_masks,
    seeds,
    shapes,
)
from prunelab.pruning.strategies.block import block
from torch import nn

import prunelab
from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.pruning import masks

sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))
scopes = st.sampled_from(["local", "global"])
by_pairs = functools.partial(block, size=[2, 2])


@few
@given(shapes, amount_each_round, seeds, sizes, scopes, st.booleans())
def test_block_is_the_oracle(shapes, plan, seed, size, scope, scattered):
    strategy = functools.partial(block, size=list(size), scope=scope)
    in_rounds(strategy, functools.partial(block_oracle, size=size, scope=scope), shapes, plan, seed, scattered)


def test_blocks_of_a_ragged_matrix_by_hand():
    # means, of the four corners: 1, 5; 4, 2 (one weight)
    _, parameters = network([(3, 3)])
    put(parameters, [np.array([[1, 1, 5], [1, 1, 5], [4, 4, -2]])])
    by_pairs(parameters, 0.25)
    assert now(parameters)[0].tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 1]]
    by_pairs(parameters, 1 / 3)  # of the three that live
    assert now(parameters)[0].tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    by_pairs(parameters, 0.9)  # never the last
    assert now(parameters)[0].tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
    by_pairs(parameters, 0.9)
    assert sum(flat(parameters)) == 2


def test_a_block_s_score_is_the_mean_of_what_is_left_of_it():
    # left block: mean of 4 alone, or 1 if its pruned weights counted; right block: mean 2
    _, parameters = network([(2, 4)])
    put(parameters, [np.array([[4, 9, 2, 2], [9, 9, 2, 2]])])
    put_masks(parameters, [np.array([[1, 0, 1, 1], [0, 0, 1, 1]])])
    by_pairs(parameters, 0.5)
    assert now(parameters)[0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]


def test_a_block_without_weights_counts_no_more():
    _, parameters = network([(1, 4)])
    put(parameters, [np.array([[0, 1, 2, 3]])])
    put_masks(parameters, [np.array([[0, 1, 1, 1]])])
    block(parameters, 1 / 3, size=[1, 1])
    assert flat(parameters) == [0, 0, 1, 1]


def test_of_equal_blocks_the_first_goes_and_a_convolution_s_blocks_run_over_the_kernel():
    _, parameters = network([(2, 1, 2, 2)])  # a matrix [2, 4]
    block(parameters, 0.0, size=[1, 2])
    put(parameters, [np.ones((2, 1, 2, 2))])
    block(parameters, 0.5, size=[1, 2])
    assert now(parameters)[0].tolist() == [[[[0, 0], [0, 0]]], [[[1, 1], [1, 1]]]]


def test_locally_of_each_tensor_and_globally_of_all_but_a_tensor_s_best():
    weights = [np.array([[1, 1, 2, 2]]), np.array([[3, 3, 4, 4]])]
    for scope, expected in [("local", [0, 0, 1, 1, 0, 0, 1, 1]), ("global", [0, 0, 1, 1, 1, 1, 1, 1])]:
        _, parameters = network([(1, 4), (1, 4)])
        put(parameters, weights)
        block(parameters, 0.5 if scope == "local" else 0.25, size=[1, 2], scope=scope)
        assert flat(parameters) == expected
    block(parameters, 0.9, size=[1, 2], scope="global")
    assert flat(parameters) == [0, 0, 1, 1, 0, 0, 1, 1]


@few
@given(shapes, st.floats(0, 0.99), seeds, sizes)
def test_exactly_round_amount_n_of_the_living_blocks_go_whole(shapes, amount, seed, size):
    _, parameters = network(shapes)
    put(parameters, integers(shapes, seed))
    for _ in range(2):
        old = now(parameters)
        block(parameters, amount, size=list(size))
        for before, after in zip(old, now(parameters), strict=True):
            was, is_ = (mask.reshape(len(mask), -1) for mask in (before, after))
            alive = [bool(is_[cut].any()) for cut in blocks(is_, size)]
            n = sum(bool(was[cut].any()) for cut in blocks(was, size))
            assert n - sum(alive) == goes(amount, n)
            assert alive == [bool(is_[cut].all()) for cut in blocks(is_, size)]


@pytest.mark.parametrize("size", [4, [4], [4, 4, 4], [0, 4], [4, -1], [1.5, 4], [True, 4], "44", [4, "4"], None])
def test_block_refuses_what_is_no_size(size):
    _, parameters = network([(2, 2)])
    with pytest.raises(ConfigError, match=r"strategy\.size="):
        block(parameters, 0.5, size=size)


def test_block_refuses_a_bias_and_another_scope():
    model = nn.Sequential(nn.Linear(2, 4))
    parameters = masks.select(model, ["0.bias"])
    masks.attach(parameters)
    with pytest.raises(ConfigError, match=r"strategy\.size=\[2, 2\]: bias of Linear has shape \[4\]"):
        by_pairs(parameters, 0.5)
    with pytest.raises(ConfigError, match=r"strategy\.scope=layer: must be local or global"):
        by_pairs(parameters, 0.5, scope="layer")


def test_the_preset_prunes_lenet_in_blocks():
    config = prunelab.compose("strategy=block", "strategy.size=[2,3]")
    model = building.bind(config, "model")()
    parameters = masks.select(model)
    masks.attach(parameters)
    building.bind(config, "strategy", [], 0.5)(parameters, 0.5)
    matrix = model.fc3.weight_mask.numpy()
    alive = [bool(matrix[cut].any()) for cut in blocks(matrix, (2, 3))]
    assert sum(alive) == len(alive) - round(0.5 * len(alive))
