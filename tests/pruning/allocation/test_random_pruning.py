"""criterion=random with each allocation: a function of torch's seed, not of the weights."""

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
    now,
    pruned,
    pruner,
    put,
    seeds,
    shapes,
)


@few
@given(shapes, amount_each_round, seeds)
def test_random_prunes_the_smallest_of_torch_s_draws(shapes, plan, seed):
    found = pruner(shapes, criterion="random")
    for t, amount in enumerate(plan):
        weights, old = integers(shapes, seed + t), now(found)
        put(found, weights)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + t)
            draws = [torch.rand(shape).numpy() for shape in shapes]
        assert_equal(pruned(found, amount, seed=seed + t), l1_oracle(weights, old, amount, draws))


def test_random_is_a_function_of_the_seed_and_not_of_the_weights():
    drawn = []
    for seed, weights in [(1, (1, 2, 3, 4)), (1, (4, 3, 2, 1)), (2, (1, 2, 3, 4))]:
        found = pruner([(8, 8)], criterion="random", seed=seed)
        put(found, [np.resize(weights, (8, 8))])
        found.prune(0.5)
        drawn.append(flat(found))
    assert drawn[0] == drawn[1] != drawn[2]
    assert sum(drawn[0]) == 32


def test_each_call_draws_anew_and_leaves_torch_s_generator_alone():
    found = pruner([(64, 64)], criterion="random")
    before = torch.get_rng_state()
    first = found.score()
    found.prune(0.5)
    assert torch.equal(found.score()[0] > 2, first[0] > 2)
    torch.set_rng_state(before)
    other = pruner([(64, 64)], criterion="random")
    state = torch.get_rng_state()
    other.prune(0.5)
    assert torch.equal(torch.get_rng_state(), state)
    once = now(other)[0]
    other.prune(0.5)
    twice = now(other)[0]
    gone = once.reshape(-1)[:2048], twice.reshape(-1)[:2048]  # halves differ: not the same draw again
    assert not np.array_equal(gone[0], gone[1])
