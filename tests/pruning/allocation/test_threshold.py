"""allocation=threshold: every unit whose score is small enough."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    biases,
    channels,
    few,
    flat,
    four,
    in_rounds,
    integers,
    keep_one,
    now,
    pruned,
    pruner,
    put,
    put_masks,
    seeds,
    shapes,
    threshold_oracle,
)
from torch import nn

from prunelab.errors import ConfigError
from prunelab.pruning.allocation.threshold import Threshold
from prunelab.pruning.pruner import Pruner


@few
@given(shapes, st.integers(0, 4), seeds, st.booleans(), st.booleans())
def test_threshold_is_the_oracle(shapes, limit, seed, scattered, by_channel):
    granularity = "channel" if by_channel else "weight"
    found = pruner(shapes, Threshold(limit), granularity)
    oracle = lambda weights, old, _: threshold_oracle(weights, old, limit, granularity)  # noqa: E731
    in_rounds(found, oracle, [None, None], seed, scattered)


@pytest.mark.parametrize(
    ("weights", "limit", "expected"),
    [
        ((1, -2, 3, -4), 2, [0, 0, 1, 1]),  # ≤
        ((1, -2, 3, -4), 1.99, [0, 1, 1, 1]),
        ((0, -0.0, 1e-30, 1), 0, [0, 0, 1, 1]),  # exact zeros only
        ((1, 1, 1, 1), 0, [1, 1, 1, 1]),
        ((1, 2, 4, 3), 9, [0, 0, 1, 0]),  # the best stays
        ((1, 1, 1, 1), 9, [0, 0, 0, 1]),  # of equals, the first go
        ((0, 0, 0, 0), 0, [0, 0, 0, 1]),
        ((0.3, 0.1, 0.7, 1), 0.3, [0, 0, 1, 1]),  # a float32 0.3 is larger than Python's
        ((0.7, 0.1, 0.3, 1), 0.7, [0, 0, 0, 1]),  # a float32 0.7 is smaller
    ],
)
def test_threshold_of_four(weights, limit, expected):
    found = four(weights, allocation=Threshold(limit))
    pruned(found, None)
    assert flat(found) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(3.5, [1, 1, 1]), (3.54, [0, 1, 1]), (9, [0, 1, 0])],
)
def test_channels_go_by_their_root_mean_square_with_their_biases(limit, expected):
    found = pruner([(3, 2)], Threshold(limit), "channel")
    put(found, [np.array([[3, 4], [5, 5], [0, 7]])])  # √12.5 = 3.54, 5, √24.5 = 4.95
    pruned(found, None)
    assert now(found)[0].any(1).tolist() == expected
    assert biases(found)[0].tolist() == expected


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7])
def test_a_channel_of_equal_weights_is_as_large_as_they_are(value):
    found = pruner([(2, 9)], Threshold(value), "channel")
    put(found, [np.array([[value] * 9, [1] * 9])])
    pruned(found, None)
    assert now(found)[0].any(1).tolist() == [0, 1]


def test_a_channel_s_pruned_weights_count_as_zeros():
    found = pruner([(2, 4)], Threshold(1), "channel")
    put_masks(found, [np.array([[0, 0, 0, 1], [1, 1, 1, 1]])])
    put(found, [np.array([[8, 8, 8, 2], [2, 2, 2, 2]])])
    pruned(found, None)  # √(4 / 4) = 1
    assert now(found)[0].any(1).tolist() == [0, 1]


@few
@given(shapes, seeds, st.integers(0, 3))
def test_biases_go_with_the_channels(shapes, seed, limit):
    found = pruner(shapes, Threshold(limit), "channel")
    put(found, integers(shapes, seed))
    pruned(found, None)
    for bias, mask in zip(biases(found), now(found), strict=True):
        assert np.array_equal(bias, channels(mask, 0))


def test_single_weights_leave_the_biases_alone():
    found = four((1, 2, 3, 4), allocation=Threshold(2))
    found.prune()
    assert biases(found) == [None]


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf"), "small", True, None])
def test_threshold_refuses_what_is_no_size(limit):
    with pytest.raises(ConfigError, match=r"allocation\.threshold=.*: must be a number ≥ 0"):
        Threshold(limit)


def test_threshold_refuses_an_amount_and_channels_of_a_bias():
    with pytest.raises(ConfigError, match=r"amount=0.5: allocation=threshold sets its own sparsity; must be null"):
        four((1, 2, 3, 4), allocation="threshold").prune(0.5)
    model = nn.Sequential(nn.Linear(2, 4))
    with pytest.raises(ConfigError, match=r"granularity\.dim=0: 0\.bias has shape \[4\]"):
        Pruner(model, granularity="channel", allocation="threshold", include=["0.bias"], output_layer=True)
    found = Pruner(model, allocation=Threshold(1), include=["0.bias"])
    put(found, [np.array([1, 2, 3, 4])])
    found.prune()
    assert flat(found) == [0, 1, 1, 1]


@few
@given(shapes, seeds)
def test_the_best_unit_of_every_tensor_stays(shapes, seed):
    found = pruner(shapes, Threshold(9))
    put_masks(found, [keep_one(mask > 0) for mask in integers(shapes, seed)])
    put(found, integers(shapes, seed + 1))
    assert [int(mask.sum()) for mask in pruned(found, None)] == [1] * len(shapes)
