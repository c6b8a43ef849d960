"""Rules: each tensor by the first rule that matches it, each rule by its own granularity, allocation and amount."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    assert_equal,
    biases,
    few,
    global_oracle,
    integers,
    l1_oracle,
    layer,
    ln_oracle,
    now,
    pruned,
    put,
    seeds,
)
from torch import nn
from torch.nn.utils import prune

from prunelab.errors import ConfigError
from prunelab.pruning.allocation.global_ import Global
from prunelab.pruning.allocation.local import Local
from prunelab.pruning.allocation.nm import NM
from prunelab.pruning.custom import EverySecond, score_each
from prunelab.pruning.granularity.channel import Channel
from prunelab.pruning.granularity.weight import Weight
from prunelab.pruning.masks import Masks
from prunelab.pruning.pruner import Pruner
from prunelab.pruning.rules import Rule

SHAPES = [(4, 2, 2, 2), (3, 4, 1, 1), (5, 6), (4, 5)]
NAMES = ["conv1", "conv2", "fc1", "fc2"]
ONES = [np.ones(shape, dtype=bool) for shape in SHAPES]
amounts = st.floats(0, 0.99)


def local(match, *amount, **how):
    return Rule(match, Weight(), Local(), *amount, **how)


def ruled(*rules, weights=None, **how):
    model = nn.Sequential()
    for name, shape in zip(NAMES, SHAPES, strict=True):
        model.add_module(name, layer(shape))
    found = Pruner(model, rules=rules, output_layer=True, **how)
    put(found, weights or integers(SHAPES, seed=0))
    return found


@few
@given(seeds, amounts, amounts, amounts)
def test_each_rule_prunes_its_own_tensors_by_its_own_amount(seed, first, second, third):
    weights = integers(SHAPES, seed)
    found = ruled(
        local("conv1.weight", first),
        Rule("Conv2d", Channel(1, 1), Local(), second),
        Rule("fc*", Weight(), Global()),
        weights=weights,
    )
    expected = [
        *l1_oracle(weights[:1], ONES[:1], first),
        *ln_oracle(weights[1:2], ONES[1:2], second, 1, 1),
        *global_oracle(weights[2:], ONES[2:], third),
    ]
    assert_equal(pruned(found, third), expected)


def test_what_no_rule_matches_stays():
    found = ruled(local("fc1.weight", 0.5))
    found.prune()
    assert [bool(mask.all()) for mask in now(found)] == [True, True, False, True]
    assert biases(found) == [None] * 4


def test_a_type_matches_what_derives_from_it_and_a_pattern_matches_whole_names():
    class Mine(nn.Linear):
        pass

    found = Pruner(nn.Sequential(Mine(2, 2), layer((2, 2))), rules=[local("Mine"), local("Linear", 0.25)])
    put(found, [np.array([[1, 4], [4, 1]])] * 2)  # what is left of the first is no whole channel
    found.prune(0.5)
    assert [int(mask.sum()) for mask in now(found)] == [2, 3]
    for match in ("fc1", "weight", "linear"):
        with pytest.raises(ConfigError, match="matches no tensor"):
            ruled(local(match))


def test_scores_decide_within_a_rule():
    weights, scores = integers(SHAPES, seed=1), integers(SHAPES, seed=2)
    by_scores = [torch.tensor(np.abs(score)).float() for score in scores]
    found = ruled(local("Linear"), weights=weights, criterion=lambda _: by_scores)
    found.prune(0.5)
    assert_equal(now(found), ONES[:2] + l1_oracle(scores[2:], ONES[2:], 0.5))


def test_a_rule_may_have_a_pruning_method():
    weights = integers(SHAPES, seed=3)
    found = ruled(
        local("Conv2d", 0.25, method=EverySecond),
        Rule("Linear", Weight(), Global(), 0.5, method=prune.L1Unstructured),
        weights=weights,
    )
    found.prune()
    assert [int(mask.sum()) for mask in now(found)[:2]] == [24, 9]
    assert not now(found)[0].ravel()[::4].any()
    assert sum(int(mask.sum()) for mask in now(found)[2:]) == 25


def test_several_rounds_go_on_from_the_masks():
    weights = integers(SHAPES, seed=4)
    found = ruled(local("*"), weights=weights)
    found.prune(0.5)
    old = l1_oracle(weights, ONES, 0.5)
    found.prune(0.5)
    assert_equal(now(found), l1_oracle(weights, old, 0.5))


def test_biases_go_with_the_channels_of_their_rule():
    found = ruled(Rule("Linear", Channel(), Local(), 0.4), local("Conv2d", 0.2))
    found.prune()
    assert [bias is None for bias in biases(found)] == [True, True, False, False]
    for bias, mask in zip(biases(found)[2:], now(found)[2:], strict=True):
        assert np.array_equal(bias, mask.any(1))
        assert len(mask) - mask.any(1).sum() == round(0.4 * len(mask))


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([local("fc9.*")], ["strategy.rules[0].match=fc9.*: matches no tensor", "fc1.weight (Linear)"]),
        ([local("*"), local("Conv2d")], ["strategy.rules[1].match=Conv2d: earlier rules match all"]),
        ([Rule("*", Channel(), NM())], ["granularity=channel: allocation=nm prunes single weights; must be weight"]),
        ([local("Linear"), Rule("Conv2d", Channel(dim=5), Local())], ["granularity.dim=5: conv1.weight has shape"]),
    ],
)
def test_rules_that_do_not_fit_are_refused_before_anything_is_pruned(rules, said):
    with pytest.raises(ConfigError) as caught:
        ruled(*rules)
    assert all(part in str(caught.value) for part in said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "amount", "said"),
    [
        ([local("*", 1)], None, "amount=1: must be a fraction in [0, 1)"),
        ([local("*", -0.1)], None, "amount=-0.1: must be a fraction"),
        ([local("*", True)], None, "amount=True: must be a fraction"),
        ([local("*", float("nan"))], None, "amount=nan: must be a fraction"),
        ([local("*")], None, "amount=null: must be a fraction"),
        ([Rule("*", Weight(), NM())], 0.5, "amount=0.5: allocation=nm sets its own sparsity; must be null"),
    ],
)
def test_amounts_that_do_not_fit_are_refused(rules, amount, said):
    found = ruled(*rules)
    with pytest.raises(ConfigError) as caught:
        found.prune(amount)
    assert said in str(caught.value)
    assert all(mask.all() for mask in now(found))


def test_a_refused_pruner_leaves_no_masks():
    model = nn.Sequential(nn.Linear(2, 4))
    with pytest.raises(ConfigError):
        Pruner(model, granularity="channel", allocation="nm", output_layer=True)
    assert not model[0]._load_state_dict_post_hooks
    assert not len(Masks(model))


def test_a_rule_scores_its_tensors_by_a_function_of_its_own():
    weights = integers(SHAPES, seed=3)
    largest = score_each(lambda weight: 100 - weight.abs(), "largest")  # prunes the largest
    found = ruled(local("conv*.weight", 0.5), local("fc*.weight", 0.5, criterion=largest), weights=weights)
    found.prune()
    scores = [np.abs(w) if w.ndim > 2 else 100 - np.abs(w) for w in weights]
    assert_equal(now(found), l1_oracle(weights, ONES, 0.5, scores))


def test_a_method_beside_rules_is_refused():
    with pytest.raises(ConfigError, match="method=EverySecond: rules have methods of their own"):
        ruled(local("*", 0.5), method=EverySecond)


def test_a_factor_takes_a_share_of_the_amount():
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    rules = [Rule("1.weight", Weight(), Local(), factor=0.5), Rule("*", Weight(), Local())]
    pruner = Pruner(model, rules=rules, output_layer=True)
    pruner.prune(0.2)
    pruner.prune(0.5)
    # 100 · 0.8 · 0.5, and 90 less round(90 · 0.25)
    assert [int(item.kept.sum()) for item in pruner.items] == [40, 90 - round(90 * 0.25)]
