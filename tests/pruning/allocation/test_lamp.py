"""allocation=lamp: one ranking by scores that each tensor's larger ones discount."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    amount_each_round,
    few,
    flat,
    four,
    in_rounds,
    integers,
    lamp_oracle,
    now,
    pruned,
    pruner,
    put,
    put_masks,
    seeds,
    shapes,
)


@few
@given(shapes, amount_each_round, seeds, st.booleans())
def test_lamp_is_the_oracle(shapes, plan, seed, scattered):
    in_rounds(pruner(shapes, "lamp"), lamp_oracle, plan, seed, scattered)


@pytest.mark.parametrize(
    ("goes", "expected"),
    [
        (1, [0, 1, 1, 1, 1, 1]),
        (2, [0, 1, 1, 0, 1, 1]),  # global magnitude would take 1 and 2
        (3, [0, 0, 1, 0, 1, 1]),
        (4, [0, 0, 1, 0, 0, 1]),
    ],
)
def test_lamp_by_hand(goes, expected):
    # (1, 2, 3): 1/14, 4/13, 1.  (10, 20, 20): 100/900 = 1/9, 400/800 = 1/2, 1.
    found = pruner([(1, 3), (1, 3)], "lamp")
    put(found, [np.array([[1, 2, -3]]), np.array([[10, 20, -20]])])
    pruned(found, goes / 6)
    assert flat(found) == expected


def test_lamp_counts_only_what_is_still_there():
    found = pruner([(1, 3), (1, 2)], "lamp")
    put_masks(found, [np.array([[0, 1, 1]]), np.array([[1, 1]])])
    put(found, [np.array([[9, 5, 4]]), np.array([[3, 4]])])
    pruned(found, 0.25)  # the 4 is worth 16/41 = 0.39, but 16/122 = 0.13 if the 9 counted; the 3, 9/25 = 0.36
    assert flat(found) == [0, 1, 1, 0, 1]


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-30])
def test_of_equal_weights_the_first_go_first(value):
    found = four((value,) * 4, allocation="lamp")
    found.prune(0.5)
    assert flat(found) == [0, 0, 1, 1]


def test_the_scale_of_a_tensor_does_not_matter():
    weights = integers([(6, 6), (5, 5)], seed=1)
    kept = []
    for scale in (1, 2.0**20):
        found = pruner([(6, 6), (5, 5)], "lamp")
        put(found, [weights[0] * scale, weights[1]])
        found.prune(0.7)
        kept.append(flat(found))
    assert kept[0] == kept[1]


@few
@given(shapes, st.floats(0, 0.99), seeds)
def test_within_a_tensor_lamp_goes_by_magnitude(shapes, amount, seed):
    weights = integers(shapes, seed)
    found = pruner(shapes, "lamp")
    put(found, weights)
    pruned(found, amount)
    for weight, mask in zip(weights, now(found), strict=True):
        assert np.abs(weight)[~mask].max(initial=0) <= np.abs(weight)[mask].min()


def test_lamp_refuses_negative_scores_though_their_squares_are_not():
    found = four((1, 2, 3, 4), allocation="lamp", criterion=lambda _: [torch.tensor([[1.0, -2.0, 3.0, 4.0]])])
    with pytest.raises(ValueError, match="finite and ≥ 0"):
        found.prune(0.5)
