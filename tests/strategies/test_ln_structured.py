"""`ln_structured`: whole channels, of each tensor or in one ranking."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    amount_each_round,
    assert_equal,
    channel_scores,
    channels,
    few,
    flat,
    four,
    global_ln_oracle,
    in_rounds,
    integers,
    ln_oracle,
    network,
    now,
    pruned,
    put,
    put_masks,
    seeds,
    shapes,
)
from prunelab.pruning.strategies import base as strategies
from prunelab.pruning.strategies.ln_structured import ln_structured
from torch import nn

from prunelab.config.schema import ConfigError
from prunelab.pruning import masks


@few
@given(shapes, amount_each_round, seeds, st.sampled_from([1, 2, float("inf")]), st.sampled_from([0, 1]))
def test_ln_structured_is_the_oracle(shapes, plan, seed, n, dim):
    strategy = functools.partial(ln_structured, n=n, dim=dim)
    in_rounds(strategy, functools.partial(ln_oracle, n=n, dim=dim), shapes, plan, seed)


@few
@given(shapes, amount_each_round, seeds, st.sampled_from([1, 2, float("inf")]), st.sampled_from([0, 1]))
def test_ln_structured_goes_on_from_scattered_masks(shapes, plan, seed, n, dim):
    _, parameters = network(shapes)
    old = [mask > -2 for mask in integers(shapes, seed + 99)]
    put_masks(parameters, old)
    weights = integers(shapes, seed)
    put(parameters, weights)
    for amount in plan:
        ln_structured(parameters, amount, n=n, dim=dim)
        old = ln_oracle(weights, old, amount, n, dim)
        assert_equal(now(parameters), old)


@few
@given(shapes, amount_each_round, seeds)
def test_a_bias_goes_with_its_output_channel_and_no_other(shapes, plan, seed):
    _, parameters = network(shapes)
    for t, amount in enumerate(plan):
        put(parameters, integers(shapes, seed + t))
        ln_structured(parameters, amount, dim=0)
    for (module, _), mask in zip(parameters, now(parameters), strict=True):
        assert np.array_equal(module.bias_mask.numpy(), channels(mask, 0))


@pytest.mark.parametrize(
    ("n", "dim", "expected"),
    [
        (1, 0, [1, 1, 0, 0]),  # 3 + 3 > 5 + 0
        (2, 0, [0, 0, 1, 1]),  # 9 + 9 < 25
        (float("inf"), 0, [0, 0, 1, 1]),  # 3 < 5
        (2, 1, [1, 0, 1, 0]),  # 9 + 25 > 9
    ],
)
def test_ln_structured_of_four(n, dim, expected):
    _, parameters = four((3, -3, -5, 0), shape=(2, 2))
    ln_structured(parameters, 0.5, n=n, dim=dim)
    assert flat(parameters) == expected


def test_ln_structured_of_equal_channels_takes_the_first():
    _, parameters = network([(4, 1)])
    put(parameters, [np.array([[2], [-1], [1], [1]])])
    ln_structured(parameters, 0.5)
    assert flat(parameters) == [1, 0, 0, 1]


@pytest.mark.parametrize("n", [1, 2, 10, 20, 100, float("inf")])
def test_ln_structured_of_many_channels_takes_the_smallest_whatever_the_norm(n):
    _, parameters = network([(200, 2)])
    put(parameters, [np.linspace(2, 1, 200)[:, None].repeat(2, 1)])
    ln_structured(parameters, 0.5, n=n)
    assert flat(parameters) == [1] * 200 + [0] * 200


def test_a_pruned_output_channel_emits_nothing():
    model, parameters = network([(4, 3, 2, 2)])
    ln_structured(parameters, 0.5)
    channel = model(torch.rand(5, 3, 2, 2)).abs().amax((0, 2, 3)) > 0
    assert channel.tolist() == channels(now(parameters)[0], 0).tolist()
    assert int(channel.sum()) == 2


def test_a_pruned_input_channel_leaves_the_bias_alone():
    _, parameters = network([(2, 4)])
    ln_structured(parameters, 0.5, dim=1)
    assert not hasattr(parameters[0][0], "bias_mask")


def test_ln_structured_without_a_bias():
    model = nn.Sequential(nn.Linear(2, 4, bias=False))
    parameters = masks.select(model)
    masks.attach(parameters)
    ln_structured(parameters, 0.5)
    assert [item.name for item in masks.masked(model)] == ["0.weight"]


def test_ln_structured_leaves_the_biases_of_a_transposed_convolution_s_living_channels():
    model = nn.Sequential(nn.ConvTranspose2d(2, 2, 1))  # weight [in, out, 1, 1]
    parameters = masks.select(model)
    masks.attach(parameters)
    put(parameters, [np.array([[3, 3], [1, 1]]).reshape(2, 2, 1, 1)])
    ln_structured(parameters, 0.5, dim=0)
    emits = now(parameters)[0].any((0, 2, 3))
    kept = getattr(model[0], "bias_mask", torch.ones(2)).numpy().astype(bool)
    assert not (emits & ~kept).any()


@pytest.mark.parametrize(("n", "dim"), [(0, 0), (-1, 0), (float("nan"), 0), ("two", 0), (2, 2), (2, -3), (2, 7)])
def test_ln_structured_refuses_what_is_no_norm_or_no_channel(n, dim):
    _, parameters = network([(2, 2)])
    with pytest.raises(ConfigError, match=r"strategy\.(n|dim)="):
        ln_structured(parameters, 0.5, n=n, dim=dim)


@pytest.mark.parametrize("dim", [0, 1])
def test_ln_structured_refuses_a_tensor_without_channels(dim):
    model = nn.Sequential(nn.Linear(2, 4))
    parameters = masks.select(model, ["0.bias"])
    masks.attach(parameters)
    with pytest.raises(ConfigError, match=rf"strategy\.dim={dim}: bias of Linear has shape \[4\]"):
        ln_structured(parameters, 0.5, dim=dim)


def test_ln_structured_counts_dim_from_the_end_in_each_tensor():
    _, parameters = network([(2, 2, 1, 1), (2, 2)])
    put(parameters, [np.ones((2, 2, 1, 1)), np.array([[1, 2], [1, 2]])])
    ln_structured(parameters, 0.5, dim=-1)
    assert flat(parameters) == [1, 1, 1, 1, 0, 1, 0, 1]


@few
@given(shapes, st.floats(0, 0.99), seeds, st.sampled_from([1, 2, float("inf")]), st.sampled_from([0, 1]))
def test_ln_largest_pruned_norm_is_at_most_smallest_kept(shapes, amount, seed, n, dim):
    model, parameters = network(shapes)
    weights = integers(shapes, seed)
    put(parameters, weights)
    new = pruned(model, parameters, functools.partial(ln_structured, n=n, dim=dim), amount)
    for weight, mask in zip(weights, new, strict=True):
        norms, kept = channel_scores(weight, n, dim), channels(mask, dim)
        assert norms[~kept].max(initial=0) <= norms[kept].min()


@pytest.mark.parametrize(("dim", "expected"), [(0, [0, 0, 1, 1]), (1, [0, 1, 0, 1])])
def test_the_last_channel_stays_with_a_warning(dim, expected):
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    parameters = masks.select(model)
    masks.attach(parameters)
    put(parameters, [np.array([[1, 2], [3, 4]])])
    strategy = functools.partial(ln_structured, dim=dim)
    with pytest.warns(UserWarning, match=r"0\.weight is down to its last channel, which stays"):
        strategies.prune(model, parameters, strategy, 0.99)
    assert flat(parameters) == expected
    strategies.prune(model, parameters, strategy, 0.99)
    assert flat(parameters) == expected


def test_a_layer_that_always_had_one_output_is_no_reason_to_warn():
    model, parameters = four((1, 2, 3, 4))
    strategies.prune(model, parameters, ln_structured, 0.5)
    assert flat(parameters) == [1, 1, 1, 1]


ORDERS = [1, 2, float("inf")]


@few
@given(shapes, amount_each_round, seeds, st.sampled_from(ORDERS), st.sampled_from([0, 1]), st.booleans())
def test_global_ln_structured_is_the_oracle(shapes, plan, seed, n, dim, scattered):
    strategy = functools.partial(ln_structured, n=n, dim=dim, scope="global")
    in_rounds(strategy, functools.partial(global_ln_oracle, n=n, dim=dim), shapes, plan, seed, scattered)


@few
@given(shapes, amount_each_round, seeds)
def test_globally_too_a_bias_goes_with_its_output_channel_and_no_other(shapes, plan, seed):
    _, parameters = network(shapes)
    for t, amount in enumerate(plan):
        put(parameters, integers(shapes, seed + t))
        ln_structured(parameters, amount, scope="global")
    for (module, _), mask in zip(parameters, now(parameters), strict=True):
        assert np.array_equal(module.bias_mask.numpy(), channels(mask, 0))


def two_layers():
    """Channels of one weight and of four, with norms 2, 3 and √(4 · 2.5²) = 5, √(4 · 1²) = 2."""
    _, parameters = network([(2, 1), (2, 4)])
    put(parameters, [np.array([[2], [3]]), np.array([[2.5] * 4, [1] * 4])])
    return parameters


@pytest.mark.parametrize(
    ("n", "amount", "expected"),
    [
        (2, 0.25, [[1, 1], [1, 0]]),  # of 2, 3, 2.5 and 1, the norms ÷ √size, the 1 goes; by norm the first 2 would
        (2, 0.5, [[0, 1], [1, 0]]),  # then the 2
        (2, 0.75, [[0, 1], [1, 0]]),  # the best of each stays
        (1, 0.5, [[0, 1], [1, 0]]),  # means of |w|: 2, 3, 2.5, 1
        (float("inf"), 0.25, [[1, 1], [1, 0]]),
    ],
)
def test_globally_channels_of_layers_of_different_size_compare(n, amount, expected):
    parameters = two_layers()
    ln_structured(parameters, amount, n=n, scope="global")
    assert [mask.any(1).tolist() for mask in now(parameters)] == expected


def test_globally_a_tensor_of_small_channels_keeps_its_best():
    _, parameters = network([(3, 2), (3, 2)])
    put(parameters, [np.array([[1, 1], [3, 3], [2, 2]]), np.full((3, 2), 9)])
    ln_structured(parameters, 0.5, scope="global")
    assert [mask.any(1).tolist() for mask in now(parameters)] == [[0, 1, 0], [0, 1, 1]]  # of equals, the first


def test_of_equal_means_in_tensors_of_different_size_the_first_goes():
    # √(1² + 1²) ÷ √2 and √(1² + 1² + 1²) ÷ √3 are both 1, but not as floats
    for first, second in [(2, 3), (3, 2)]:
        _, parameters = network([(2, first), (2, second)])
        put(parameters, [np.ones((2, first)), np.ones((2, second))])
        ln_structured(parameters, 0.25, scope="global")
        assert [mask.any(1).tolist() for mask in now(parameters)] == [[0, 1], [1, 1]]


@few
@given(shapes, st.floats(0, 0.99), seeds, st.sampled_from([0, 1]))
def test_globally_exactly_round_amount_n_of_all_living_channels_go(shapes, amount, seed, dim):
    model, parameters = network(shapes)
    put(parameters, integers(shapes, seed))
    for _ in range(2):
        old = sum(int(channels(mask, dim).sum()) for mask in now(parameters))
        new = pruned(model, parameters, functools.partial(ln_structured, scope="global", dim=dim), amount)
        assert old - sum(int(channels(mask, dim).sum()) for mask in new) == min(round(amount * old), old - len(shapes))
        assert all(mask.any() for mask in new)


def test_ln_structured_refuses_another_scope():
    _, parameters = network([(2, 2)])
    with pytest.raises(ConfigError, match=r"strategy\.scope=layer: must be local or global"):
        ln_structured(parameters, 0.5, scope="layer")
