"""`layerwise`: an exact total, spread uniformly or by Erdős–Rényi-Kernel."""

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
    network,
    now,
    put,
    put_masks,
    seeds,
    shapes,
)
from prunelab.pruning.strategies.layerwise import apportioned, layerwise
from torch import nn

import prunelab
from prunelab.config.schema import ConfigError
from prunelab.pruning import masks

erk = functools.partial(layerwise, budget="erk")
uniform = functools.partial(layerwise, budget="uniform")
budgets = st.sampled_from(["erk", "uniform"])


@few
@given(shapes, amount_each_round, seeds, budgets, st.booleans())
def test_layerwise_is_the_oracle(shapes, plan, seed, budget, scattered):
    strategy = functools.partial(layerwise, budget=budget)
    in_rounds(strategy, functools.partial(layerwise_oracle, budget=budget), shapes, plan, seed, scattered)


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


def left(parameters):
    return [int(mask.sum()) for mask in now(parameters)]


def test_erk_by_hand():
    # densities ∝ 20/100 and 8/16: 0.2 ε and 0.5 ε; kept 20 ε + 8 ε = 28 ε, of 116
    _, parameters = network([(10, 10), (4, 4)])
    erk(parameters, 60 / 116)  # 56 stay: ε = 2, densities 0.4 and 1.0
    assert left(parameters) == [40, 16]
    _, parameters = network([(10, 10), (4, 4)])
    erk(parameters, 1 - 42 / 116)  # ε = 1.5
    assert left(parameters) == [30, 12]
    _, parameters = network([(10, 10), (4, 4)])
    erk(parameters, 16 / 116)  # the second is whole, so that the first keeps 100 − 16
    assert left(parameters) == [84, 16]


def test_erk_of_a_convolution_counts_its_kernel():
    # (2 + 5 + 3 + 3) / 90 and (10 + 13) / 130: 13 ε and 23 ε
    _, parameters = network([(2, 5, 3, 3), (10, 13)])
    erk(parameters, 1 - 72 / 220)
    assert left(parameters) == [26, 46]


def test_uniform_by_hand_with_a_tensor_that_is_sparser_already():
    _, parameters = network([(1, 10), (1, 10), (1, 10)])
    put_masks(parameters, [np.ones((1, 10)), np.ones((1, 10)), np.arange(10)[None] < 2])
    uniform(parameters, 12 / 22)  # 10 stay: the third keeps its 2, the others 4 each
    assert left(parameters) == [4, 4, 2]
    uniform(parameters, 0.5)  # 5 stay: 5/3 each; the first two get one more
    assert left(parameters) == [2, 2, 1]
    uniform(parameters, 0.9)  # one each
    assert left(parameters) == [1, 1, 1]


def test_largest_remainders_get_one_more_and_of_equals_the_first():
    assert apportioned([3, 3, 4], [9, 9, 9], 5) == [2, 1, 2]  # 1.5, 1.5, 2
    assert apportioned([5, 3, 2], [9, 9, 9], 7) == [4, 2, 1]  # 3.5, 2.1, 1.4
    assert apportioned([1, 1, 1], [5, 5, 5], 5) == [2, 2, 1]
    assert apportioned([1, 100], [50, 50], 60) == [10, 50]  # the second is full
    assert apportioned([1, 100], [50, 50], 40) == [1, 39]  # the first would get 0.4
    assert apportioned([7], [9], 4) == [4]


def test_in_each_tensor_the_smallest_go():
    _, parameters = four((4, -1, 2, 3))
    erk(parameters, 0.5)
    assert flat(parameters) == [1, 0, 0, 1]


@pytest.mark.parametrize("budget", ["erk", "uniform"])
@few
@given(shapes=shapes, plan=amount_each_round, seed=seeds)
def test_uniform_and_erk_densities_are_within_one_weight(budget, shapes, plan, seed):
    """Whichever tensors keep neither all that they had nor just one differ in density ÷ share by one weight."""
    _, parameters = network(shapes)
    put(parameters, integers(shapes, seed))
    for amount in plan:
        before = left(parameters)
        layerwise(parameters, amount, budget=budget)
        free = [
            ((after - 1) / share, (after + 1) / share)
            for shape, was, after in zip(shapes, before, left(parameters), strict=True)
            for share in [math.prod(shape) if budget == "uniform" else sum(shape)]
            if 1 < after < was
        ]
        assert max((low for low, _ in free), default=0) < min((high for _, high in free), default=1)


def test_a_bias_is_a_tensor_too():
    model = nn.Sequential(nn.Linear(10, 10))
    parameters = masks.select(model, ["*"])
    masks.attach(parameters)
    erk(parameters, 0.5)  # shares 20 and 10; the bias stays whole: 55 = 45 + 10
    assert sorted(left(parameters)) == [10, 45]


def test_layerwise_refuses_another_budget():
    _, parameters = four((1, 2, 3, 4))
    with pytest.raises(ConfigError, match=r"strategy\.budget=er: must be uniform or erk"):
        layerwise(parameters, 0.5, budget="er")


def test_the_presets_are_two_budgets_of_one_function():
    erk, uniform = (prunelab.compose(f"strategy={name}").strategy for name in ("erk", "uniform"))
    assert erk._target_ == uniform._target_
    assert (erk.budget, uniform.budget) == ("erk", "uniform")
