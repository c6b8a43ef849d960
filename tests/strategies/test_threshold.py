"""`threshold`: whatever is small enough, however much that is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import channels, few, flat, four, in_rounds, network, now, put, put_masks, seeds, shapes, threshold_oracle
from prunelab.pruning.strategies.threshold import threshold
from torch import nn

import prunelab
from prunelab.config.schema import ConfigError
from prunelab.pruning import masks


@few
@given(shapes, st.lists(st.integers(0, 4), min_size=1, max_size=3), seeds, st.booleans(), st.booleans())
def test_threshold_is_the_oracle(shapes, limits, seed, scattered, by_channel):
    granularity = "channel" if by_channel else "weight"
    in_rounds(
        lambda parameters, limit: threshold(parameters, None, threshold=limit, granularity=granularity),
        lambda weights, old, limit: threshold_oracle(weights, old, limit, granularity),
        shapes,
        limits,  # one a round, in the place of the amounts
        seed,
        scattered,
    )


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
    _, parameters = four(weights)
    threshold(parameters, None, threshold=limit)
    assert flat(parameters) == expected


def test_channels_go_by_their_root_mean_square_with_their_biases():
    _, parameters = network([(3, 2)])
    put(parameters, [np.array([[3, 4], [5, 5], [0, 7]])])  # √12.5 = 3.54, 5, √24.5 = 4.95
    threshold(parameters, None, threshold=3.5, granularity="channel")
    assert now(parameters)[0].all()
    threshold(parameters, None, threshold=3.54, granularity="channel")
    assert now(parameters)[0].any(1).tolist() == [0, 1, 1]
    assert parameters[0][0].bias_mask.tolist() == [0, 1, 1]
    threshold(parameters, None, threshold=9, granularity="channel")
    assert now(parameters)[0].any(1).tolist() == [0, 1, 0]


def test_a_channel_of_equal_weights_is_as_large_as_they_are():
    for value in (0.1, 0.3, 0.7):
        _, parameters = network([(2, 9)])
        put(parameters, [np.array([[value] * 9, [1] * 9])])
        threshold(parameters, None, threshold=value, granularity="channel")
        assert now(parameters)[0].any(1).tolist() == [0, 1]


def test_a_channel_s_pruned_weights_count_as_zeros():
    _, parameters = network([(2, 4)])
    put(parameters, [np.array([[8, 8, 8, 2], [2, 2, 2, 2]])])
    put_masks(parameters, [np.array([[0, 0, 0, 1], [1, 1, 1, 1]])])
    threshold(parameters, None, threshold=1, granularity="channel")  # √(4 / 4) = 1
    assert now(parameters)[0].any(1).tolist() == [0, 1]


@few
@given(shapes, seeds, st.integers(0, 3))
def test_biases_go_with_the_channels(shapes, seed, limit):
    _, parameters = network(shapes)
    put(parameters, [np.random.default_rng(seed).integers(-3, 4, shape) for shape in shapes])
    threshold(parameters, None, threshold=limit, granularity="channel")
    for (module, _), mask in zip(parameters, now(parameters), strict=True):
        assert np.array_equal(module.bias_mask.numpy(), channels(mask, 0))


def test_single_weights_leave_the_biases_alone():
    _, parameters = four((1, 2, 3, 4))
    threshold(parameters, None, threshold=2)
    assert not hasattr(parameters[0][0], "bias_mask")


def test_it_goes_by_what_the_optimizer_moves():
    _, parameters = four((1, 2, 3, 4))
    with torch.no_grad():
        parameters[0][0].weight_orig.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))  # module.weight is stale
    threshold(parameters, None, threshold=2)
    assert flat(parameters) == [1, 1, 0, 0]


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf"), "small", True, None])
def test_threshold_refuses_what_is_no_size(limit):
    _, parameters = four((1, 2, 3, 4))
    with pytest.raises(ConfigError, match=r"strategy\.threshold=.*: must be a number ≥ 0"):
        threshold(parameters, None, threshold=limit)


def test_threshold_refuses_channels_of_a_bias_and_another_granularity():
    model = nn.Sequential(nn.Linear(2, 4))
    parameters = masks.select(model, ["0.bias"])
    masks.attach(parameters)
    with pytest.raises(ConfigError, match=r"strategy\.granularity=channel: bias of Linear has shape \[4\]"):
        threshold(parameters, None, threshold=1, granularity="channel")
    with pytest.raises(ConfigError, match=r"strategy\.granularity=layer: must be weight or channel"):
        threshold(parameters, None, threshold=1, granularity="layer")
    put(parameters, [np.array([1, 2, 3, 4])])
    threshold(parameters, None, threshold=1)
    assert flat(parameters) == [0, 1, 1, 1]


def test_the_preset_is_one_round_without_an_amount():
    config = prunelab.compose("strategy=threshold")
    assert (config.amount, config.strategy.threshold, config.strategy.granularity) == (None, 0.01, "weight")
    assert config.schedule._target_ == "prunelab.pruning.schedules.one_shot"
