"""allocation=local, and allocation=row: the same fraction of each tensor, or of each row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    amount_each_round,
    few,
    flat,
    four,
    goes,
    in_rounds,
    integers,
    l1_oracle,
    now,
    pruned,
    pruner,
    put,
    row_oracle,
    seeds,
    shapes,
)
from torch import nn

from prunelab.errors import ConfigError
from prunelab.pruning.pruner import Pruner


@few
@given(shapes, amount_each_round, seeds, st.booleans())
def test_local_is_the_oracle(shapes, plan, seed, scattered):
    in_rounds(pruner(shapes), l1_oracle, plan, seed, scattered)


def test_five_halves_round_to_two():
    found = pruner([(1, 5)])
    put(found, [np.array([[5, 4, 3, 2, 1]])])
    found.prune(0.5)
    assert flat(found) == [1, 1, 1, 0, 0]


@few
@given(shapes, st.floats(0, 0.99), seeds)
def test_local_largest_pruned_is_at_most_smallest_kept(shapes, amount, seed):
    found = pruner(shapes)
    weights = integers(shapes, seed)
    put(found, weights)
    for weight, mask in zip(weights, pruned(found, amount), strict=True):
        assert np.abs(weight)[~mask].max(initial=0) <= np.abs(weight)[mask].min()


@few
@given(shapes, amount_each_round, seeds, st.booleans())
def test_row_is_the_oracle(shapes, plan, seed, scattered):
    in_rounds(pruner(shapes, "row"), row_oracle, plan, seed, scattered)


@pytest.mark.parametrize(
    ("weights", "mask", "amount", "expected"),
    [
        ((1, 2, 3, 4, 9, 8, 7, 6), (1,) * 8, 0.5, [0, 0, 1, 1, 1, 1, 0, 0]),  # local would empty the first row
        ((1, 1, 1, 1, 2, 1, 2, 1), (1,) * 8, 0.5, [0, 0, 1, 1, 1, 0, 1, 0]),  # of equals, the first go first
        ((1, 2, 3, 4, 9, 8, 7, 6), (1, 1, 1, 1, 0, 1, 1, 0), 0.5, [0, 0, 1, 1, 0, 1, 0, 0]),  # round(1) of 2
        ((1, 2, 3, 4, 9, 8, 7, 6), (0, 0, 1, 0, 1, 1, 1, 1), 0.99, [0, 0, 1, 0, 1, 0, 0, 0]),  # never a row's last
        ((1, 2, 3, 4, 9, 8, 7, 6), (0, 0, 0, 0, 1, 1, 1, 0), 0.5, [0, 0, 0, 0, 1, 0, 0, 0]),  # round(1.5) = 2
        ((1, 2, 3, 4, 9, 8, 7, 6), (1,) * 8, 0.125, [1] * 8),  # round(0.5) = 0
    ],
)
def test_row_of_two_fours(weights, mask, amount, expected):
    found = four(weights, mask, shape=(2, 4), allocation="row")
    pruned(found, amount)
    assert flat(found) == expected


def test_a_row_of_a_convolution_is_all_that_one_output_sees():
    found = pruner([(2, 2, 1, 2)], "row")
    put(found, [np.array([[[[1, 8]], [[2, 7]]], [[[6, 3]], [[5, 4]]]])])
    found.prune(0.5)
    assert now(found)[0].tolist() == [[[[0, 1]], [[0, 1]]], [[[1, 0]], [[1, 0]]]]


@few
@given(shapes, amount_each_round, seeds)
def test_row_takes_exactly_round_amount_n_of_each_row(shapes, plan, seed):
    found = pruner(shapes, "row")
    put(found, integers(shapes, seed))
    for amount in plan:
        old = now(found)
        for before, after in zip(old, pruned(found, amount), strict=True):
            rows = [mask.reshape(len(mask), -1) for mask in (before, after)]
            assert not (rows[1] & ~rows[0]).any()
            gone = [int(n) for n in rows[0].sum(1) - rows[1].sum(1)]
            assert gone == [goes(amount, int(n)) for n in rows[0].sum(1)]


def test_row_refuses_a_bias_and_channels():
    model = nn.Sequential(nn.Linear(2, 4))
    with pytest.raises(ConfigError, match=r"allocation=row: 0\.bias has one unit in each row"):
        Pruner(model, allocation="row", include=["0.bias"])
    with pytest.raises(ConfigError, match=r"allocation=row: 0\.weight has one unit in each row"):
        Pruner(model, granularity="channel", allocation="row", output_layer=True)
    found = Pruner(model, allocation="local", include=["0.bias"])  # a bias as a whole is a ranking like any other
    found.prune(0.5)
    assert sum(flat(found)) == 2
