"""allocation=global: the smallest of all tensors, in one ranking; and of four weights, what local does too."""

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
    pruned,
    pruner,
    put,
    seeds,
    shapes,
)


@few
@given(shapes, amount_each_round, seeds, st.booleans())
def test_global_is_the_oracle(shapes, plan, seed, scattered):
    in_rounds(pruner(shapes, "global"), global_oracle, plan, seed, scattered)


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
@pytest.mark.parametrize("allocation", ["local", "global"])
def test_magnitude_of_four(allocation, weights, mask, amount, expected):
    found = four(weights, mask, allocation=allocation)
    pruned(found, amount)
    assert flat(found) == expected


def test_local_takes_from_each_tensor_and_global_from_where_the_smallest_are():
    weights = [np.array([[1, 2]]), np.array([[3, 4], [5, 6]])]
    local, together = pruner([(1, 2), (2, 2)]), pruner([(1, 2), (2, 2)], "global")
    put(local, weights)
    pruned(local, 0.5)
    assert flat(local) == [0, 1, 0, 0, 1, 1]
    put(together, weights)
    pruned(together, 0.5)
    assert flat(together) == [0, 1, 0, 0, 1, 1]  # 2 is the last of its tensor: 4 goes instead
    pruned(together, 0.9)
    assert flat(together) == [0, 1, 0, 0, 0, 1]


def test_global_ties_go_in_the_order_of_the_tensors():
    found = pruner([(2, 2), (2, 2)], "global")
    put(found, [np.ones((2, 2)), np.ones((2, 2))])
    pruned(found, 5 / 8)
    assert flat(found) == [0, 0, 0, 1, 0, 0, 1, 1]


@few
@given(shapes, st.floats(0, 0.99), seeds)
def test_global_largest_pruned_is_at_most_smallest_kept(shapes, amount, seed):
    found = pruner(shapes, "global")
    weights = integers(shapes, seed)
    put(found, weights)
    new = pruned(found, amount)
    gone = [np.abs(weight)[~mask] for weight, mask in zip(weights, new, strict=True)]
    # A tensor's last weight stays however small it is.
    kept = [np.abs(weight)[mask] for weight, mask in zip(weights, new, strict=True) if mask.sum() > 1]
    assert np.concatenate(gone).max(initial=0) <= np.concatenate([*kept, [99]]).min()
