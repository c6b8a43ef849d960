"""allocation=uniform and allocation=erk: an exact total, spread uniformly or by Erdős–Rényi-Kernel."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    amount_each_round,
    budget_oracle,
    few,
    flat,
    four,
    in_rounds,
    integers,
    layerwise_oracle,
    now,
    pruned,
    pruner,
    put,
    put_masks,
    seeds,
    shapes,
)
from torch import nn

from prunelab.pruning.allocation.uniform import apportioned
from prunelab.pruning.pruner import Pruner

erk = functools.partial(pruner, allocation="erk")
budgets = st.sampled_from(["erk", "uniform"])


@few
@given(shapes, amount_each_round, seeds, budgets, st.booleans())
def test_layerwise_is_the_oracle(shapes, plan, seed, budget, scattered):
    in_rounds(pruner(shapes, budget), functools.partial(layerwise_oracle, budget=budget), plan, seed, scattered)


@few
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6),
    st.data(),
    budgets,
)
def test_apportioned_is_the_oracle_for_larger_layers(shapes, data, budget):
    alive = [data.draw(st.integers(1, math.prod(shape))) for shape in shapes]
    total = data.draw(st.integers(len(shapes), sum(alive)))
    shares = [math.prod(shape) if budget == "uniform" else sum(shape) for shape in shapes]
    keeps = apportioned(shares, alive, total)
    assert keeps == budget_oracle(shapes, alive, total, budget)
    assert sum(keeps) == total
    assert all(1 <= keep <= top for keep, top in zip(keeps, alive, strict=True))


def left(pruner):
    return [int(mask.sum()) for mask in now(pruner)]


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        # densities ∝ 20/100 and 8/16: 0.2 ε and 0.5 ε; kept 20 ε + 8 ε = 28 ε, of 116
        (60 / 116, [40, 16]),  # 56 stay: ε = 2, densities 0.4 and 1.0
        (1 - 42 / 116, [30, 12]),  # ε = 1.5
        (16 / 116, [84, 16]),  # the second is whole, so that the first keeps 100 − 16
    ],
)
def test_erk_by_hand(amount, expected):
    found = erk([(10, 10), (4, 4)])
    found.prune(amount)
    assert left(found) == expected


def test_erk_of_a_convolution_counts_its_kernel():
    # (2 + 5 + 3 + 3) / 90 and (10 + 13) / 130: 13 ε and 23 ε
    found = erk([(2, 5, 3, 3), (10, 13)])
    found.prune(1 - 72 / 220)
    assert left(found) == [26, 46]


def test_uniform_by_hand_with_a_tensor_that_is_sparser_already():
    found = pruner([(1, 10), (1, 10), (1, 10)], "uniform")
    put_masks(found, [np.ones((1, 10)), np.ones((1, 10)), np.arange(10)[None] < 2])
    found.prune(12 / 22)  # 10 stay: the third keeps its 2, the others 4 each
    assert left(found) == [4, 4, 2]
    pruned(found, 0.5)  # 5 stay: 5/3 each; the first two get one more
    assert left(found) == [2, 2, 1]
    pruned(found, 0.9)  # one each
    assert left(found) == [1, 1, 1]


def test_largest_remainders_get_one_more_and_of_equals_the_first():
    assert apportioned([3, 3, 4], [9, 9, 9], 5) == [2, 1, 2]  # 1.5, 1.5, 2
    assert apportioned([5, 3, 2], [9, 9, 9], 7) == [4, 2, 1]  # 3.5, 2.1, 1.4
    assert apportioned([1, 1, 1], [5, 5, 5], 5) == [2, 2, 1]
    assert apportioned([1, 100], [50, 50], 60) == [10, 50]  # the second is full
    assert apportioned([1, 100], [50, 50], 40) == [1, 39]  # the first would get 0.4
    assert apportioned([7], [9], 4) == [4]


def test_in_each_tensor_the_smallest_go():
    found = four((4, -1, 2, 3), allocation="erk")
    found.prune(0.5)
    assert flat(found) == [1, 0, 0, 1]


@pytest.mark.parametrize("budget", ["erk", "uniform"])
@few
@given(shapes=shapes, plan=amount_each_round, seed=seeds)
def test_uniform_and_erk_densities_are_within_one_weight(budget, shapes, plan, seed):
    """Whichever tensors keep neither all that they had nor just one differ in density ÷ share by one weight."""
    found = pruner(shapes, budget)
    put(found, integers(shapes, seed))
    for amount in plan:
        before = left(found)
        pruned(found, amount)
        free = [
            ((after - 1) / share, (after + 1) / share)
            for shape, was, after in zip(shapes, before, left(found), strict=True)
            for share in [math.prod(shape) if budget == "uniform" else sum(shape)]
            if 1 < after < was
        ]
        assert max((low for low, _ in free), default=0) < min((high for _, high in free), default=1)


def test_a_bias_is_a_tensor_too():
    found = Pruner(nn.Sequential(nn.Linear(10, 10)), allocation="erk", include=["*"])
    found.prune(0.5)  # shares 20 and 10; the bias stays whole: 55 = 45 + 10
    assert sorted(left(found)) == [10, 45]


def test_uniform_channels_keep_the_same_density():
    found = pruner([(8, 3), (4, 8), (16, 4)], "uniform", "channel")
    found.prune(0.5)
    assert [int(mask.any(1).sum()) for mask in now(found)] == [4, 2, 8]


def test_erk_channels_by_hand():
    # shares: channels · Σ ÷ Π = 10 · 20/100 = 2 and 4 · 8/16 = 2: as many of each; 7 of 14 stay
    found = pruner([(10, 10), (4, 4)], "erk", "channel")
    found.prune(0.5)
    assert [int(mask.any(1).sum()) for mask in now(found)] == [4, 3]
