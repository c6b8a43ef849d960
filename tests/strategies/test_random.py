"""`strategy=random`: no Python of its own, `l1` by the criterion `random`."""

import numpy as np
import torch
from hypothesis import given
from oracles import (
    amount_each_round,
    assert_equal,
    few,
    flat,
    integers,
    l1_oracle,
    network,
    now,
    put,
    random,
    seeds,
    shapes,
)

import prunelab


@few
@given(shapes, amount_each_round, seeds)
def test_random_prunes_the_smallest_of_torch_s_draws(shapes, plan, seed):
    _, parameters = network(shapes)
    for t, amount in enumerate(plan):
        weights, old = integers(shapes, seed + t), now(parameters)
        put(parameters, weights)
        torch.manual_seed(seed + t)
        draws = [torch.rand(shape).numpy() for shape in shapes]
        torch.manual_seed(seed + t)
        random(parameters, amount)
        assert_equal(now(parameters), l1_oracle(weights, old, amount, draws))


def test_random_is_a_function_of_torch_s_seed_and_not_of_the_weights():
    drawn = []
    for seed, weights in [(1, (1, 2, 3, 4)), (1, (4, 3, 2, 1)), (2, (1, 2, 3, 4))]:
        _, parameters = network([(8, 8)])
        put(parameters, [np.resize(weights, (8, 8))])
        torch.manual_seed(seed)
        random(parameters, 0.5)
        drawn.append(flat(parameters))
    assert drawn[0] == drawn[1] != drawn[2]
    assert sum(drawn[0]) == 32


def test_random_is_a_preset_whose_criterion_may_be_changed():
    config = prunelab.compose("strategy=random")
    assert config.strategy._target_ == prunelab.compose("strategy=l1").strategy._target_
    assert config.criterion._target_ == prunelab.compose("criterion=random").criterion._target_
    assert prunelab.compose("strategy=random", "criterion=magnitude").criterion == prunelab.compose().criterion
