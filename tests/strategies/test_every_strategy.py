"""What holds for all strategies, as a round calls them: through strategies.prune."""

import functools
import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    amount_each_round,
    assert_equal,
    channels,
    count,
    few,
    flat,
    four,
    goes,
    integers,
    keep_one,
    network,
    now,
    pruned,
    put,
    put_masks,
    random,
    seeds,
    shapes,
)
from prunelab.pruning.strategies import base as strategies
from prunelab.pruning.strategies.block import block
from prunelab.pruning.strategies.custom import custom
from prunelab.pruning.strategies.global_unstructured import global_unstructured
from prunelab.pruning.strategies.l1 import l1
from prunelab.pruning.strategies.lamp import lamp
from prunelab.pruning.strategies.layerwise import layerwise
from prunelab.pruning.strategies.ln_structured import ln_structured
from prunelab.pruning.strategies.nm import nm
from prunelab.pruning.strategies.rules import rules
from prunelab.pruning.strategies.threshold import threshold
from torch import nn

from prunelab.config.schema import ConfigError
from prunelab.pruning import masks

scored = functools.partial(custom, method="oracles.distance_from_one", trusted=("oracles",))
# Single weights: the amount is of each tensor's …
EACH = {
    "l1": l1,
    "random": random,
    "every_second": functools.partial(custom, method="prunelab.pruning.strategies.custom.EverySecond"),
    "score": scored,
    "rules": functools.partial(rules, rules=[{"match": "*", "method": "l1"}]),
}
# … or of all tensors' weights together.
ALL = {
    "global": global_unstructured,
    "global_score": functools.partial(scored, scope="global"),
    "lamp": lamp,
    "erk": functools.partial(layerwise, budget="erk"),
    "uniform": functools.partial(layerwise, budget="uniform"),
    "global_rule": functools.partial(rules, rules=[{"match": "*", "method": "global"}]),
}
UNSTRUCTURED = {**EACH, **ALL}
CHANNELS = {"out": ln_structured, "in": functools.partial(ln_structured, dim=1, n=1)}
OTHER = {
    "row": functools.partial(l1, per="row"),
    "global_out": functools.partial(ln_structured, scope="global"),
    "block": functools.partial(block, size=[2, 2]),
    "global_block": functools.partial(block, size=[2, 2], scope="global"),
}
EVERY = {**UNSTRUCTURED, **CHANNELS, **OTHER}


# These decide by themselves how much goes.
DECIDE = {
    "nm": nm,
    "threshold": functools.partial(threshold, threshold=1.0),
    "channel_threshold": functools.partial(threshold, threshold=2.0, granularity="channel"),
}
CALLS = [*((name, strategy, 0.5) for name, strategy in EVERY.items()), *((n, s, None) for n, s in DECIDE.items())]
every_call = pytest.mark.parametrize(("strategy", "amount"), [call[1:] for call in CALLS], ids=[c[0] for c in CALLS])
# They weigh every weight; EverySecond does not look, random looks elsewhere.
WEIGHED = [call[1:] for call in CALLS if call[0] not in ("every_second", "random")]


def test_scores_take_the_place_of_magnitude():
    _, parameters = four((1, 2, 3, 4))
    l1(parameters, 0.25, scores=[torch.tensor([[4.0, 3.0, 2.0, 1.0]])])
    assert flat(parameters) == [1, 1, 1, 0]
    global_unstructured(parameters, 1 / 3, scores=[torch.tensor([[4.0, 3.0, 2.0, 1.0]])])
    assert flat(parameters) == [1, 1, 0, 0]
    _, parameters = four((1, 1, 2, 2), shape=(2, 2))
    ln_structured(parameters, 0.5, scores=[torch.tensor([[4.0, 3.0], [2.0, 1.0]])])
    assert flat(parameters) == [1, 1, 0, 0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_call
def test_a_gpu_prunes_what_the_cpu_prunes(strategy, amount):
    both = []
    for device in ("cpu", "cuda"):
        model, parameters = network([(8, 4), (4, 8)])
        put(parameters, integers([(8, 4), (4, 8)], seed=0))
        model.to(device)
        for seed in (0, 1):
            torch.manual_seed(seed)
            strategies.prune(model, parameters, strategy, amount)
        model.cpu()
        both.append(flat(parameters))
    assert both[0] == both[1]


@pytest.mark.parametrize(("strategy", "amount"), WEIGHED)
def test_scores_and_weights_that_are_not_finite_are_refused(strategy, amount):
    _, parameters = four((1, 2, float("nan"), 4), shape=(2, 2))
    with pytest.raises(ValueError, match="finite and ≥ 0"):
        strategy(parameters, amount)
    if "scores" in inspect.signature(strategy).parameters:
        _, parameters = four((1, 2, 3, 4), shape=(2, 2))
        with pytest.raises(ValueError, match="finite and ≥ 0"):
            strategy(parameters, amount, scores=[torch.full((2, 2), float("inf"))])


@pytest.mark.parametrize("name", UNSTRUCTURED)
@few
@given(shapes=shapes, plan=amount_each_round, seed=seeds)
def test_exactly_round_amount_n_of_the_unpruned_go_and_masks_only_shrink(name, shapes, plan, seed):
    model, parameters = network(shapes)
    put(parameters, integers(shapes, seed))
    scope = "all" if name in ALL else "each"
    for amount in plan:
        old = now(parameters)
        new = pruned(model, parameters, UNSTRUCTURED[name], amount)
        assert not any((after & ~before).any() for before, after in zip(old, new, strict=True))
        for n, left in zip(count(old, scope), count(new, scope), strict=True):
            keeps = len(shapes) if scope == "all" else 1
            assert n - left == min(round(amount * n), n - keeps)
        assert all(mask.any() for mask in new)


@pytest.mark.parametrize("name", CHANNELS)
@few
@given(shapes=shapes, plan=amount_each_round, seed=seeds)
def test_exactly_round_amount_n_of_the_living_channels_go(name, shapes, plan, seed):
    model, parameters = network(shapes)
    put(parameters, integers(shapes, seed))
    dim = 0 if name == "out" else 1
    for amount in plan:
        old = now(parameters)
        for before, after in zip(old, pruned(model, parameters, CHANNELS[name], amount), strict=True):
            was, is_ = channels(before, dim), channels(after, dim)
            assert was.sum() - is_.sum() == goes(amount, int(was.sum()))
            assert not (after & ~before).any()
            whole = np.moveaxis(after, dim, 0).reshape(len(is_), -1)
            assert np.array_equal(whole.all(1), is_)  # a channel goes whole or not at all


@pytest.mark.parametrize("name", EVERY)
def test_amount_0_changes_nothing(name):
    shapes = [(3, 4), (2, 3, 2, 2)]
    model, parameters = network(shapes)
    put(parameters, integers(shapes, seed=1))
    pruned(model, parameters, UNSTRUCTURED.get(name, l1), 0.5)
    old, x = now(parameters), torch.rand(2, 4)
    before = model[0](x)
    strategies.prune(model, parameters, EVERY[name], 0.0)
    assert_equal(now(parameters), old)
    assert torch.equal(model[0](x), before)


@every_call
def test_strategies_leave_the_weights_under_the_masks_alone(strategy, amount):
    shapes = [(3, 4), (2, 3, 2, 2)]
    model, parameters = network(shapes)
    weights = integers(shapes, seed=2)
    put(parameters, weights)
    pruned(model, parameters, strategy, amount)
    assert not all(flat(parameters))
    for (module, _), weight in zip(parameters, weights, strict=True):
        assert np.array_equal(module.weight_orig.detach().numpy(), weight)
        assert np.array_equal(module.weight.detach().numpy(), weight * module.weight_mask.numpy())
        assert module.weight_orig.requires_grad


@every_call
def test_strategies_prune_models_in_channels_last(strategy, amount):
    model = nn.Sequential(nn.Conv2d(4, 4, 3)).to(memory_format=torch.channels_last)
    parameters = masks.select(model)
    masks.attach(parameters)
    put(parameters, integers([(4, 4, 3, 3)], seed=0))
    torch.manual_seed(0)
    in_channels_last = pruned(model, parameters, strategy, amount)
    model, parameters = network([(4, 4, 3, 3)])
    put(parameters, integers([(4, 4, 3, 3)], seed=0))
    torch.manual_seed(0)
    assert_equal(in_channels_last, pruned(model, parameters, strategy, amount))
    assert not all(flat(parameters))


def test_prune_ranks_what_an_optimizer_has_just_moved():
    model, parameters = four((1, 2, 3, 4))
    with torch.no_grad():
        parameters[0][0].weight_orig.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))  # module.weight is stale
    custom_method = functools.partial(custom, method="torch.nn.utils.prune.L1Unstructured")
    strategies.prune(model, parameters, custom_method, 0.25)
    assert flat(parameters) == [1, 1, 1, 0]
    assert parameters[0][0].weight.tolist() == [[4, 3, 2, 0]]


def test_prune_gives_milliseconds():
    model, parameters = four((1, 2, 3, 4))
    assert 0 < strategies.prune(model, parameters, l1, 0.5) < 10_000


def kill(parameters, amount):
    for module, name in parameters:
        getattr(module, f"{name}_mask").zero_()


def revive(parameters, amount):
    for module, name in parameters:
        getattr(module, f"{name}_mask").copy_(torch.tensor([[0.0, 1.0, 1.0, 0.0]]))


def test_the_last_weight_stays_with_a_warning():
    model, parameters = four((1, 2, -3, 4), mask=(1, 1, 1, 0))
    with pytest.warns(UserWarning, match=r"0\.weight is down to its last weight, which stays"):
        strategies.prune(model, parameters, kill, 0.5)
    assert flat(parameters) == [0, 0, 1, 0]  # the best of those still there; 4 was gone
    assert parameters[0][0].weight.tolist() == [[0, 0, -3, 0]]
    strategies.prune(model, parameters, kill, 0.5)  # said once
    assert flat(parameters) == [0, 0, 1, 0]


def test_of_equal_best_weights_one_stays():
    model, parameters = four((0, 0, 0, 0))
    with pytest.warns(UserWarning, match="last weight"):
        strategies.prune(model, parameters, kill, 0.5)
    assert sum(flat(parameters)) == 1


@pytest.mark.parametrize("strategy", UNSTRUCTURED.values(), ids=UNSTRUCTURED)
def test_strategies_warn_at_the_last_weight(strategy):
    model, parameters = four((1, 2, 3, 4))
    with pytest.warns(UserWarning, match=r"0\.weight is down to its last weight"):
        strategies.prune(model, parameters, strategy, 0.9)
    assert sum(flat(parameters)) == 1
    strategies.prune(model, parameters, strategy, 0.9)
    assert sum(flat(parameters)) == 1


def test_a_strategy_that_revives_a_weight_raises():
    model, parameters = four((1, 2, 3, 4), mask=(1, 1, 0, 1))
    with pytest.raises(RuntimeError, match=r"0\.weight: the strategy revived pruned weights"):
        strategies.prune(model, parameters, revive, 0.5)


def test_count_is_python_s_round_and_never_the_last():
    assert [strategies.count(0.5, n) for n in range(6)] == [0, 0, 1, 2, 2, 2]
    assert [strategies.count(0.99, n) for n in (0, 1, 2, 100)] == [0, 0, 1, 99]
    assert strategies.count(0.0, 4) == 0
    with pytest.raises(ConfigError, match="amount=null: this strategy needs a fraction"):
        strategies.count(None, 4)
    _, parameters = four((1, 2, 3, 4), mask=(1, 0, 0, 1))
    assert strategies.unpruned(*parameters[0]) == 2


@few
@given(st.floats(0, 0.99) | st.sampled_from([0.0, 0.25, 0.5, 0.75]), st.lists(st.integers(0, 1000), max_size=20))
def test_counts_are_count_of_each(amount, units):
    assert strategies.counts(amount, torch.tensor(units)).tolist() == [strategies.count(amount, n) for n in units]


@every_call
@few
@given(shapes=shapes, seed=seeds)
def test_from_scattered_masks_they_shrink_and_no_tensor_is_left_without_weights(strategy, amount, shapes, seed):
    model, parameters = network(shapes)
    put_masks(parameters, [keep_one(mask > 0) for mask in integers(shapes, seed)])
    for t in range(3):
        put(parameters, integers(shapes, seed + t))
        old, new = now(parameters), pruned(model, parameters, strategy, amount)
        assert not any((after & ~before).any() for before, after in zip(old, new, strict=True))
        assert all(mask.any() for mask in new)


def test_every_strategy_without_a_fraction_says_so():
    for strategy in EVERY.values():
        _, parameters = four((1, 2, 3, 4))
        with pytest.raises(ConfigError, match="amount=null"):
            strategy(parameters, None)


@pytest.mark.parametrize("strategy", DECIDE.values(), ids=DECIDE)
@pytest.mark.parametrize("amount", [0.0, 0.5])
def test_those_that_decide_by_themselves_refuse_an_amount(strategy, amount):
    _, parameters = four((1, 2, 3, 4))
    with pytest.raises(ConfigError, match=rf"amount={amount}: \w+ decides by itself how much goes; must be null"):
        strategy(parameters, amount)


@pytest.mark.parametrize("name", sorted({*EVERY, "nm"} - {"random", "every_second", "score", "global_score"}))
def test_scores_decide_and_not_the_weights(name):
    shapes = [(4, 4), (4, 4, 2, 1)]
    by_scores, by_weights = [], []
    strategy, amount = (nm, None) if name == "nm" else (EVERY[name], 0.5)
    weights, others = integers(shapes, seed=3), integers(shapes, seed=4)
    for found, under, scores in [(by_scores, others, weights), (by_weights, weights, None)]:
        _, parameters = network(shapes)
        put(parameters, under)
        given_scores = {"scores": [torch.tensor(np.abs(s)).double() for s in scores]} if scores else {}
        strategy(parameters, amount, **given_scores)
        found += flat(parameters)
    assert by_scores == by_weights
