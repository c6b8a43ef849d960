"""`global`: the smallest of all tensors, in one ranking; and of four weights, what `l1` does too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    amount_each_round,
    few,
    flat,
    four,
    global_oracle,
    in_rounds,
    integers,
    network,
    pruned,
    put,
    seeds,
    shapes,
)
from prunelab.pruning.strategies.global_unstructured import global_unstructured
from prunelab.pruning.strategies.l1 import l1


@few
@given(shapes, amount_each_round, seeds)
def test_global_is_the_oracle(shapes, plan, seed):
    in_rounds(global_unstructured, global_oracle, shapes, plan, seed)


@pytest.mark.parametrize(
    ("weights", "mask", "amount", "expected"),
    [
        ((-4, 3, -2, 1), (1, 1, 1, 1), 0.25, [1, 1, 1, 0]),
        ((-4, 3, -2, 1), (1, 1, 1, 0), 1 / 3, [1, 1, 0, 0]),  # of those still there
        ((2, 1, 1, 1), (1, 1, 1, 1), 0.5, [1, 0, 0, 1]),  # of equals, the first go first
        ((0, 0, 5, 0), (0, 1, 1, 1), 1 / 3, [0, 0, 1, 1]),  # what is gone is not counted again
        ((1, 2, 3, 4), (1, 1, 1, 0), 0.5, [0, 0, 1, 0]),  # round(1.5) = 2
        ((1, 2, 3, 4), (1, 1, 1, 1), 0.125, [1, 1, 1, 1]),  # round(0.5) = 0
        ((1, 2, 3, 4), (1, 1, 1, 1), 0.375, [0, 0, 1, 1]),  # round(1.5) = 2
        ((1, 2, 3, 4), (1, 1, 1, 1), 0.99, [0, 0, 0, 1]),  # never the last
        ((1, 2, 3, 4), (0, 1, 0, 0), 0.99, [0, 1, 0, 0]),
    ],
)
@pytest.mark.parametrize("strategy", [l1, global_unstructured])
def test_magnitude_of_four(strategy, weights, mask, amount, expected):
    _, parameters = four(weights, mask)
    strategy(parameters, amount)
    assert flat(parameters) == expected


def test_local_takes_from_each_tensor_and_global_from_where_the_smallest_are():
    weights = [np.array([[1, 2]]), np.array([[3, 4], [5, 6]])]
    _, parameters = network([(1, 2), (2, 2)])
    put(parameters, weights)
    l1(parameters, 0.5)
    assert flat(parameters) == [0, 1, 0, 0, 1, 1]
    _, parameters = network([(1, 2), (2, 2)])
    put(parameters, weights)
    global_unstructured(parameters, 0.5)
    assert flat(parameters) == [0, 1, 0, 0, 1, 1]  # 2 is the last of its tensor: 4 goes instead
    global_unstructured(parameters, 0.9)
    assert flat(parameters) == [0, 1, 0, 0, 0, 1]


def test_global_ties_go_in_the_order_of_the_tensors():
    _, parameters = network([(2, 2), (2, 2)])
    put(parameters, [np.ones((2, 2)), np.ones((2, 2))])
    global_unstructured(parameters, 5 / 8)
    assert flat(parameters) == [0, 0, 0, 1, 0, 0, 1, 1]


@few
@given(shapes, st.floats(0, 0.99), seeds)
def test_global_largest_pruned_is_at_most_smallest_kept(shapes, amount, seed):
    model, parameters = network(shapes)
    weights = integers(shapes, seed)
    put(parameters, weights)
    new = pruned(model, parameters, global_unstructured, amount)
    gone = [np.abs(weight)[~mask] for weight, mask in zip(weights, new, strict=True)]
    # A tensor's last weight stays however small it is.
    kept = [np.abs(weight)[mask] for weight, mask in zip(weights, new, strict=True) if mask.sum() > 1]
    assert np.concatenate(gone).max(initial=0) <= np.concatenate([*kept, [99]]).min()
