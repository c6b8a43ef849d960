"""`nm`: of each M consecutive weights along the inputs, N stay."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    few,
    flat,
    four,
    in_rounds,
    integers,
    network,
    nm_oracle,
    now,
    put,
    seeds,
    shapes,
)
from prunelab.pruning.strategies.nm import nm
from torch import nn

import prunelab
from prunelab.config.schema import ConfigError
from prunelab.pruning import masks

patterns = st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (2, 3), (4, 8)])


@few
@given(shapes, st.integers(1, 2), seeds, patterns, st.booleans())
def test_nm_is_the_oracle(shapes, rounds, seed, pattern, scattered):
    n, m = pattern
    in_rounds(
        lambda parameters, amount: nm(parameters, amount, n=n, m=m),
        lambda weights, old, amount: nm_oracle(weights, old, n, m),
        shapes,
        [None] * rounds,
        seed,
        scattered,
    )


@pytest.mark.parametrize(
    ("weights", "mask", "expected"),
    [
        ((1, -2, 3, -4), (1, 1, 1, 1), [0, 0, 1, 1]),
        ((4, 1, 3, 2), (1, 1, 1, 1), [1, 0, 1, 0]),
        ((1, 1, 1, 1), (1, 1, 1, 1), [0, 0, 1, 1]),  # of equals, the first go
        ((0, 0, 0, 0), (1, 1, 1, 1), [0, 0, 1, 1]),
        ((4, 3, 2, 1), (0, 0, 1, 1), [0, 0, 1, 1]),  # two are left: nothing goes
        ((4, 3, 2, 1), (0, 1, 1, 1), [0, 1, 1, 0]),  # what is gone takes nobody's place
        ((4, 3, 2, 1), (0, 0, 0, 1), [0, 0, 0, 1]),
    ],
)
def test_two_of_four(weights, mask, expected):
    _, parameters = four(weights, mask)
    nm(parameters, None)
    assert flat(parameters) == expected


def test_groups_end_with_a_row_and_the_last_may_be_shorter():
    _, parameters = network([(2, 7)])
    put(parameters, [np.array([[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1]])])
    nm(parameters, None, n=2, m=4)
    assert now(parameters)[0].tolist() == [[0, 0, 1, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1, 0]]


def test_a_convolution_s_groups_run_over_its_inputs_at_one_kernel_position():
    weight = np.zeros((1, 4, 1, 2))
    weight[0, :, 0, 0] = [1, 2, 3, 4]
    weight[0, :, 0, 1] = [8, 7, 6, 5]
    _, parameters = network([(1, 4, 1, 2)])
    put(parameters, [weight])
    nm(parameters, None)
    kept = now(parameters)[0]
    assert kept[0, :, 0, 0].tolist() == [0, 0, 1, 1]
    assert kept[0, :, 0, 1].tolist() == [1, 1, 0, 0]


def test_a_layer_with_few_inputs_stays_as_it_is():
    _, parameters = network([(3, 1, 3, 3), (3, 2), (1, 4)])
    nm(parameters, None)
    assert [int(mask.sum()) for mask in now(parameters)] == [27, 6, 2]


def test_the_inputs_of_a_transposed_convolution_are_its_first_dimension():
    model = nn.Sequential(nn.ConvTranspose2d(4, 3, 2))
    parameters = masks.select(model)
    masks.attach(parameters)
    weights = integers([(4, 3, 2, 2)], seed=5)
    put(parameters, weights)
    nm(parameters, None)
    expected = nm_oracle(weights, [np.ones((4, 3, 2, 2), dtype=bool)], 2, 4, inputs=0)
    assert np.array_equal(now(parameters)[0], expected[0])


@few
@given(shapes, seeds, patterns)
def test_no_group_has_more_than_n_and_a_full_one_has_n(shapes, seed, pattern):
    n, m = pattern
    _, parameters = network(shapes)
    put(parameters, integers(shapes, seed))
    nm(parameters, None, n=n, m=m)
    for mask in now(parameters):
        lines = np.moveaxis(mask, 1, -1).reshape(-1, mask.shape[1])
        for start in range(0, mask.shape[1], m):
            group = lines[:, start : start + m]
            assert (group.sum(1) == min(n, group.shape[1])).all()


def test_a_second_round_changes_nothing():
    _, parameters = network([(4, 8)])
    put(parameters, integers([(4, 8)], seed=0))
    nm(parameters, None)
    old = now(parameters)[0]
    put(parameters, integers([(4, 8)], seed=1))
    nm(parameters, None)
    assert np.array_equal(now(parameters)[0], old)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 4), (0, 4), (-1, 4), (2, 0), (1.0, 4), (True, 4), (2, "4"), (1, 1)])
def test_nm_refuses_what_is_no_pattern(n, m):
    _, parameters = network([(2, 4)])
    with pytest.raises(ConfigError, match=r"strategy\.(n|m)="):
        nm(parameters, None, n=n, m=m)


def test_nm_refuses_a_bias():
    model = nn.Sequential(nn.Linear(2, 4))
    parameters = masks.select(model, ["0.bias"])
    masks.attach(parameters)
    with pytest.raises(ConfigError, match=r"strategy\.m=4: bias of Linear has shape \[4\]"):
        nm(parameters, None)


def test_the_preset_is_one_round_without_an_amount_whatever_the_schedule():
    config = prunelab.compose("strategy=nm")
    assert (config.amount, config.strategy.n, config.strategy.m) == (None, 2, 4)
    assert config.schedule._target_ == "prunelab.pruning.schedules.one_shot"
    assert prunelab.compose("strategy=nm", "schedule=iterative").amount is None


def test_ranks_of_many_weights_stay_exact():
    _, parameters = network([(64, 1024)])
    torch.manual_seed(0)
    weights = [np.random.default_rng(0).integers(-3, 4, (64, 1024))]
    put(parameters, weights)
    functools.partial(nm, n=1, m=2)(parameters, None)
    assert now(parameters)[0].sum() == 64 * 512
