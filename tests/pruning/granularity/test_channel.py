"""granularity=channel: whole channels, of each tensor or in one ranking."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks_to_prune import Twins
from oracles import (
    amount_each_round,
    biases,
    channel_scores,
    channels,
    few,
    flat,
    four,
    global_ln_oracle,
    goes,
    in_rounds,
    integers,
    ln_oracle,
    now,
    pruned,
    pruner,
    put,
    seeds,
    shapes,
)
from torch import nn

from prunelab.errors import ConfigError
from prunelab.pruning.granularity.channel import Channel
from prunelab.pruning.pruner import Pruner

orders = st.sampled_from([1, 2, float("inf")])
dims = st.sampled_from([0, 1])


def by_channels(shapes, n=2, dim=0, allocation="local"):
    return pruner(shapes, allocation, Channel(n, dim))


@few
@given(shapes, amount_each_round, seeds, orders, dims, st.booleans())
def test_channels_of_each_tensor_are_the_oracle_s(shapes, plan, seed, n, dim, scattered):
    in_rounds(by_channels(shapes, n, dim), functools.partial(ln_oracle, n=n, dim=dim), plan, seed, scattered)


@few
@given(shapes, amount_each_round, seeds, orders, dims, st.booleans())
def test_channels_of_all_tensors_are_the_oracle_s(shapes, plan, seed, n, dim, scattered):
    oracle = functools.partial(global_ln_oracle, n=n, dim=dim)
    in_rounds(by_channels(shapes, n, dim, "global"), oracle, plan, seed, scattered)


@pytest.mark.parametrize("allocation", ["local", "global"])
@few
@given(shapes=shapes, plan=amount_each_round, seed=seeds)
def test_a_bias_goes_with_its_output_channel_and_no_other(allocation, shapes, plan, seed):
    found = by_channels(shapes, allocation=allocation)
    for t, amount in enumerate(plan):
        put(found, integers(shapes, seed + t))
        pruned(found, amount)
    for bias, mask in zip(biases(found), now(found), strict=True):
        assert np.array_equal(bias, channels(mask, 0))


@few
@given(shapes=shapes, plan=amount_each_round, seed=seeds, dim=dims)
def test_exactly_round_amount_n_of_the_living_channels_go_whole(shapes, plan, seed, dim):
    found = by_channels(shapes, n=1, dim=dim)
    put(found, integers(shapes, seed))
    for amount in plan:
        old = now(found)
        for before, after in zip(old, pruned(found, amount), strict=True):
            was, is_ = channels(before, dim), channels(after, dim)
            assert was.sum() - is_.sum() == goes(amount, int(was.sum()))
            assert not (after & ~before).any()
            whole = np.moveaxis(after, dim, 0).reshape(len(is_), -1)
            assert np.array_equal(whole.all(1), is_)  # a channel goes whole or not at all


@few
@given(shapes, st.floats(0, 0.99), seeds, dims)
def test_globally_exactly_round_amount_n_of_all_living_channels_go(shapes, amount, seed, dim):
    found = by_channels(shapes, dim=dim, allocation="global")
    put(found, integers(shapes, seed))
    for _ in range(2):
        old = sum(int(channels(mask, dim).sum()) for mask in now(found))
        new = pruned(found, amount)
        assert old - sum(int(channels(mask, dim).sum()) for mask in new) == min(round(amount * old), old - len(shapes))
        assert all(mask.any() for mask in new)


@pytest.mark.parametrize(
    ("n", "dim", "expected"),
    [
        (1, 0, [1, 1, 0, 0]),  # 3 + 3 > 5 + 0
        (2, 0, [0, 0, 1, 1]),  # 9 + 9 < 25
        (float("inf"), 0, [0, 0, 1, 1]),  # 3 < 5
        ("inf", 0, [0, 0, 1, 1]),
        (2, 1, [1, 0, 1, 0]),  # 9 + 25 > 9
    ],
)
def test_channels_of_four(n, dim, expected):
    found = four((3, -3, -5, 0), shape=(2, 2), granularity=Channel(n, dim))
    pruned(found, 0.5)
    assert flat(found) == expected


def test_of_equal_channels_the_first_goes():
    found = by_channels([(4, 1)])
    put(found, [np.array([[2], [-1], [1], [1]])])
    found.prune(0.5)
    assert flat(found) == [1, 0, 0, 1]


@pytest.mark.parametrize("n", [1, 2, 10, 20, 100, float("inf")])
@pytest.mark.parametrize("scale", [1, 1e-2])
def test_of_many_channels_the_smallest_go_whatever_the_norm(n, scale):
    found = by_channels([(200, 2)], n)
    put(found, [scale * np.linspace(2, 1, 200)[:, None].repeat(2, 1)])
    found.prune(0.5)
    assert flat(found) == [1] * 200 + [0] * 200


def test_a_pruned_output_channel_emits_nothing():
    found = by_channels([(4, 3, 2, 2)])
    found.prune(0.5)
    channel = found.model(torch.rand(5, 3, 2, 2)).abs().amax((0, 2, 3)) > 0
    assert channel.tolist() == channels(now(found)[0], 0).tolist()
    assert int(channel.sum()) == 2


def test_a_pruned_input_channel_leaves_the_bias_alone():
    found = by_channels([(2, 4)], dim=1)
    found.prune(0.5)
    assert biases(found) == [None]


def test_a_layer_without_a_bias():
    found = Pruner(nn.Sequential(nn.Linear(2, 4, bias=False)), granularity="channel", output_layer=True)
    found.prune(0.5)
    assert [item.name for item in found.masks] == ["0.weight"]


def test_each_layer_that_shares_a_weight_loses_its_own_bias():
    model = Twins()
    found = Pruner(model, granularity="channel", allocation="local")
    found.prune(0.4)
    kept = found.masks["b.weight"].kept.any(1)
    assert int(kept.sum()) == 3
    assert torch.equal(found.masks["b.bias"].kept, kept)
    assert torch.equal(found.masks["c.bias"].kept, kept)


def test_a_transposed_convolution_s_biases_stay():
    model = nn.Sequential(nn.ConvTranspose2d(2, 2, 1))  # weight [in, out, 1, 1]
    found = Pruner(model, granularity="channel", output_layer=True)
    put(found, [np.array([[3, 3], [1, 1]]).reshape(2, 2, 1, 1)])
    pruned(found, 0.5)
    assert now(found)[0].any((0, 2, 3)).all()  # both outputs are emitted
    assert biases(found) == [None]


@pytest.mark.parametrize(("n", "dim"), [(0, 0), (-1, 0), (float("nan"), 0), ("two", 0), (True, 0), (2, 0.5), (2, True)])
def test_what_is_no_norm_or_dimension_is_refused(n, dim):
    with pytest.raises(ConfigError, match=r"granularity\.(n|dim)="):
        Channel(n, dim)


@pytest.mark.parametrize("dim", [2, -3, 7])
def test_a_tensor_without_such_a_dimension_is_refused(dim):
    with pytest.raises(ConfigError, match=rf"granularity\.dim={dim}: 0\.weight has shape \[2, 2\]"):
        by_channels([(2, 2)], dim=dim)


@pytest.mark.parametrize("dim", [0, 1])
def test_a_bias_has_no_channels(dim):
    model = nn.Sequential(nn.Linear(2, 4))
    with pytest.raises(ConfigError, match=rf"granularity\.dim={dim}: 0\.bias has shape \[4\]"):
        Pruner(model, granularity=Channel(dim=dim), include=["0.bias"], output_layer=True)


def test_dim_counts_from_the_end_in_each_tensor():
    found = by_channels([(2, 2, 1, 1), (2, 2)], dim=-1)
    put(found, [np.ones((2, 2, 1, 1)), np.array([[1, 2], [1, 2]])])
    pruned(found, 0.5)
    assert flat(found) == [1, 1, 1, 1, 0, 1, 0, 1]


@few
@given(shapes, st.floats(0, 0.99), seeds, orders, dims)
def test_largest_pruned_norm_is_at_most_smallest_kept(shapes, amount, seed, n, dim):
    found = by_channels(shapes, n, dim)
    weights = integers(shapes, seed)
    put(found, weights)
    for weight, mask in zip(weights, pruned(found, amount), strict=True):
        norms, kept = channel_scores(weight, n, dim), channels(mask, dim)
        assert norms[~kept].max(initial=0) <= norms[kept].min()


@pytest.mark.parametrize(("dim", "expected"), [(0, [0, 0, 1, 1]), (1, [0, 1, 0, 1])])
def test_the_last_channel_stays_with_a_warning(dim, expected):
    found = Pruner(nn.Sequential(nn.Linear(2, 2, bias=False)), granularity=Channel(dim=dim), output_layer=True)
    put(found, [np.array([[1, 2], [3, 4]])])
    with pytest.warns(UserWarning, match=r"0\.weight is down to its last channel, which stays"):
        found.prune(0.99)
    assert flat(found) == expected
    found.prune(0.99)  # said once
    assert flat(found) == expected


def test_a_layer_that_always_had_one_output_is_no_reason_to_warn():
    found = four((1, 2, 3, 4), granularity="channel")
    found.prune(0.5)
    assert flat(found) == [1, 1, 1, 1]


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
    """Channels of one weight and of four, with norms 2, 3 and √(4 · 2.5²) = 5, √(4 · 1²) = 2."""
    found = by_channels([(2, 1), (2, 4)], n, allocation="global")
    put(found, [np.array([[2], [3]]), np.array([[2.5] * 4, [1] * 4])])
    assert [mask.any(1).tolist() for mask in pruned(found, amount)] == expected


def test_globally_a_tensor_of_small_channels_keeps_its_best():
    found = by_channels([(3, 2), (3, 2)], allocation="global")
    put(found, [np.array([[1, 1], [3, 3], [2, 2]]), np.full((3, 2), 9)])
    assert [mask.any(1).tolist() for mask in pruned(found, 0.5)] == [[0, 1, 0], [0, 1, 1]]  # of equals, the first


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2)])
def test_of_equal_means_in_tensors_of_different_size_the_first_goes(sizes):
    # √(1² + 1²) ÷ √2 and √(1² + 1² + 1²) ÷ √3 are both 1, but not as floats
    found = by_channels([(2, size) for size in sizes], allocation="global")
    put(found, [np.ones((2, size)) for size in sizes])
    assert [mask.any(1).tolist() for mask in pruned(found, 0.25)] == [[0, 1], [1, 1]]


def test_output_channels_spare_the_output_layer_and_input_channels_do_not():
    for dim, names in [(0, ["0.weight"]), (1, ["0.weight", "2.weight"])]:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        assert [item.name for item in Pruner(model, granularity=Channel(dim=dim)).items] == names
