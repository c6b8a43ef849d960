"""`l1`: the smallest of each tensor, or of each row."""

import functools

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
    network,
    now,
    pruned,
    put,
    row_oracle,
    seeds,
    shapes,
)
from prunelab.pruning.strategies.l1 import l1
from torch import nn

from prunelab.config.schema import ConfigError
from prunelab.pruning import masks


@few
@given(shapes, amount_each_round, seeds)
def test_l1_is_the_oracle(shapes, plan, seed):
    in_rounds(l1, l1_oracle, shapes, plan, seed)


def test_five_halves_round_to_two():
    _, parameters = network([(1, 5)])
    put(parameters, [np.array([[5, 4, 3, 2, 1]])])
    l1(parameters, 0.5)
    assert flat(parameters) == [1, 1, 1, 0, 0]


@few
@given(shapes, st.floats(0, 0.99), seeds)
def test_l1_largest_pruned_is_at_most_smallest_kept(shapes, amount, seed):
    model, parameters = network(shapes)
    weights = integers(shapes, seed)
    put(parameters, weights)
    for weight, mask in zip(weights, pruned(model, parameters, l1, amount), strict=True):
        assert np.abs(weight)[~mask].max(initial=0) <= np.abs(weight)[mask].min()


by_row = functools.partial(l1, per="row")


@few
@given(shapes, amount_each_round, seeds, st.booleans())
def test_l1_by_row_is_the_oracle(shapes, plan, seed, scattered):
    in_rounds(by_row, row_oracle, shapes, plan, seed, scattered)


@pytest.mark.parametrize(
    ("weights", "mask", "amount", "expected"),
    [
        ((1, 2, 3, 4, 9, 8, 7, 6), (1,) * 8, 0.5, [0, 0, 1, 1, 1, 1, 0, 0]),  # l1 would empty the first row
        ((1, 1, 1, 1, 2, 1, 2, 1), (1,) * 8, 0.5, [0, 0, 1, 1, 1, 0, 1, 0]),  # of equals, the first go first
        ((1, 2, 3, 4, 9, 8, 7, 6), (1, 1, 1, 1, 0, 1, 1, 0), 0.5, [0, 0, 1, 1, 0, 1, 0, 0]),  # round(1) of 2
        ((1, 2, 3, 4, 9, 8, 7, 6), (0, 0, 1, 0, 1, 1, 1, 1), 0.99, [0, 0, 1, 0, 1, 0, 0, 0]),  # never a row's last
        ((1, 2, 3, 4, 9, 8, 7, 6), (0, 0, 0, 0, 1, 1, 1, 0), 0.5, [0, 0, 0, 0, 1, 0, 0, 0]),  # round(1.5) = 2
        ((1, 2, 3, 4, 9, 8, 7, 6), (1,) * 8, 0.125, [1] * 8),  # round(0.5) = 0
    ],
)
def test_l1_by_row_of_two_fours(weights, mask, amount, expected):
    _, parameters = four(weights, mask, shape=(2, 4))
    by_row(parameters, amount)
    assert flat(parameters) == expected


def test_a_row_of_a_convolution_is_all_that_one_output_sees():
    _, parameters = network([(2, 2, 1, 2)])
    put(parameters, [np.array([[[[1, 8]], [[2, 7]]], [[[6, 3]], [[5, 4]]]])])
    by_row(parameters, 0.5)
    assert now(parameters)[0].tolist() == [[[[0, 1]], [[0, 1]]], [[[1, 0]], [[1, 0]]]]


@few
@given(shapes, amount_each_round, seeds)
def test_l1_by_row_takes_exactly_round_amount_n_of_each_row(shapes, plan, seed):
    _, parameters = network(shapes)
    put(parameters, integers(shapes, seed))
    for amount in plan:
        old = now(parameters)
        by_row(parameters, amount)
        for before, after in zip(old, now(parameters), strict=True):
            rows = [mask.reshape(len(mask), -1) for mask in (before, after)]
            assert not (rows[1] & ~rows[0]).any()
            gone = [int(n) for n in rows[0].sum(1) - rows[1].sum(1)]
            assert gone == [goes(amount, int(n)) for n in rows[0].sum(1)]


def test_l1_refuses_rows_of_a_bias_and_another_per():
    model = nn.Sequential(nn.Linear(2, 4))
    parameters = masks.select(model, ["0.bias"])
    masks.attach(parameters)
    with pytest.raises(ConfigError, match=r"strategy\.per=row: bias of Linear has shape \[4\]"):
        by_row(parameters, 0.5)
    with pytest.raises(ConfigError, match=r"strategy\.per=column: must be tensor or row"):
        l1(parameters, 0.5, per="column")
    l1(parameters, 0.5)  # a bias as a whole is a ranking like any other
    assert sum(flat(parameters)) == 2
