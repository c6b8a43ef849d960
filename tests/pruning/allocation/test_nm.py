"""allocation=nm: of each M consecutive weights along the inputs, N stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import few, flat, four, in_rounds, integers, nm_oracle, now, pruned, pruner, put, seeds, shapes
from torch import nn

from prunelab.errors import ConfigError
from prunelab.pruning.allocation.nm import NM
from prunelab.pruning.pruner import Pruner

patterns = st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (2, 3), (4, 8)])


@few
@given(shapes, st.integers(1, 2), seeds, patterns, st.booleans())
def test_nm_is_the_oracle(shapes, rounds, seed, pattern, scattered):
    found = pruner(shapes, NM(*pattern))
    in_rounds(found, lambda weights, old, _: nm_oracle(weights, old, *pattern), [None] * rounds, seed, scattered)


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
    found = four(weights, mask, allocation="nm")
    found.prune()
    assert flat(found) == expected


def test_groups_end_with_a_row_and_the_last_may_be_shorter():
    found = pruner([(2, 7)], "nm")
    put(found, [np.array([[1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1]])])
    found.prune()
    assert now(found)[0].tolist() == [[0, 0, 1, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1, 0]]


def test_a_convolution_s_groups_run_over_its_inputs_at_one_kernel_position():
    weight = np.zeros((1, 4, 1, 2))
    weight[0, :, 0, 0] = [1, 2, 3, 4]
    weight[0, :, 0, 1] = [8, 7, 6, 5]
    found = pruner([(1, 4, 1, 2)], "nm")
    put(found, [weight])
    found.prune()
    kept = now(found)[0]
    assert kept[0, :, 0, 0].tolist() == [0, 0, 1, 1]
    assert kept[0, :, 0, 1].tolist() == [1, 1, 0, 0]


def test_a_layer_with_few_inputs_stays_as_it_is():
    found = pruner([(3, 1, 3, 3), (3, 2), (1, 4)], "nm")
    found.prune()
    assert [int(mask.sum()) for mask in now(found)] == [27, 6, 2]


def test_the_inputs_of_a_transposed_convolution_are_its_first_dimension():
    found = Pruner(nn.Sequential(nn.ConvTranspose2d(4, 3, 2)), allocation="nm")
    weights = integers([(4, 3, 2, 2)], seed=5)
    put(found, weights)
    found.prune()
    expected = nm_oracle(weights, [np.ones((4, 3, 2, 2), dtype=bool)], 2, 4, inputs=0)
    assert np.array_equal(now(found)[0], expected[0])


@few
@given(shapes, seeds, patterns)
def test_no_group_has_more_than_n_and_a_full_one_has_n(shapes, seed, pattern):
    n, m = pattern
    found = pruner(shapes, NM(n, m))
    put(found, integers(shapes, seed))
    for mask in pruned(found, None):
        lines = np.moveaxis(mask, 1, -1).reshape(-1, mask.shape[1])
        for start in range(0, mask.shape[1], m):
            group = lines[:, start : start + m]
            assert (group.sum(1) == min(n, group.shape[1])).all()


def test_a_second_round_changes_nothing():
    found = pruner([(4, 8)], "nm")
    found.prune()
    old = now(found)[0]
    put(found, integers([(4, 8)], seed=1))
    found.prune()
    assert np.array_equal(now(found)[0], old)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 4), (0, 4), (-1, 4), (2, 0), (1.0, 4), (True, 4), (2, "4"), (1, 1)])
def test_nm_refuses_what_is_no_pattern(n, m):
    with pytest.raises(ConfigError, match=r"allocation\.(n|m)="):
        NM(n, m)


@pytest.mark.parametrize("amount", [0.0, 0.5])
def test_nm_refuses_an_amount(amount):
    with pytest.raises(ConfigError, match=rf"amount={amount}: allocation=nm sets its own sparsity; must be null"):
        four((1, 2, 3, 4), allocation="nm").prune(amount)


def test_nm_refuses_a_bias_and_other_units():
    model = nn.Sequential(nn.Linear(2, 4))
    with pytest.raises(ConfigError, match=r"allocation\.m=4: 0\.bias has shape \[4\]"):
        Pruner(model, allocation="nm", include=["0.bias"])
    with pytest.raises(ConfigError, match=r"granularity=channel: allocation=nm prunes single weights; must be weight"):
        Pruner(model, granularity="channel", allocation="nm", output_layer=True)


def test_ranks_of_many_weights_stay_exact():
    found = pruner([(64, 1024)], NM(1, 2))
    put(found, [np.random.default_rng(0).integers(-3, 4, (64, 1024))])
    found.prune()
    assert now(found)[0].sum() == 64 * 512
