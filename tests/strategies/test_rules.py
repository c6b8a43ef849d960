"""`rules`: each layer by the first rule that matches it, each rule by a method of its own."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    assert_equal,
    channels,
    few,
    flat,
    global_oracle,
    integers,
    l1_oracle,
    layer,
    ln_oracle,
    network,
    now,
    put,
    seeds,
)
from prunelab.pruning.strategies.rules import rules
from torch import nn
from torch.nn.utils import prune

import prunelab
from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.pruning import masks

SHAPES = [(4, 2, 2, 2), (3, 4, 1, 1), (5, 6), (4, 5)]
NAMES = ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"]
ONES = [np.ones(shape, dtype=bool) for shape in SHAPES]
amounts = st.floats(0, 0.99)


# Methods that rules look up by name.


class FromTheEnd(prune.BasePruningMethod):
    PRUNING_TYPE = "unstructured"

    def __init__(self, amount):
        self.amount = amount

    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[t.numel() - round(self.amount * t.numel()) :] = 0
        return mask


def distance_from_one(weight):
    return (weight - 1).abs()


calls = []


def note(parameters, amount, *, scores=None, names=None, depth=1):
    """A strategy that writes down how it was called."""
    calls.append((len(parameters), amount, scores, names, depth))


def ruled(*given_rules, amount=None, weights=None, **more):
    _, parameters = network(SHAPES)
    put(parameters, weights or integers(SHAPES, seed=0))
    rules(parameters, amount, rules=list(given_rules), names=NAMES, trusted=(__name__,), **more)
    return parameters


def refusal(*given_rules, amount=None):
    with pytest.raises(ConfigError) as caught:
        ruled(*given_rules, amount=amount)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@few
@given(seeds, amounts, amounts, amounts)
def test_each_method_prunes_its_own_tensors_by_its_own_amount(seed, first, second, third):
    weights = integers(SHAPES, seed)
    parameters = ruled(
        {"match": "conv1.weight", "method": "l1", "amount": first},
        {"match": "Conv2d", "method": "ln_structured", "n": 1, "dim": 1, "amount": second},
        {"match": "fc*", "method": "global"},
        amount=third,
        weights=weights,
    )
    expected = [
        *l1_oracle(weights[:1], ONES[:1], first),
        *ln_oracle(weights[1:2], ONES[1:2], second, 1, 1),
        *global_oracle(weights[2:], ONES[2:], third),
    ]
    assert_equal(now(parameters), expected)


def test_what_no_rule_matches_stays():
    parameters = ruled({"match": "fc1.weight", "method": "l1", "amount": 0.5})
    assert [bool(mask.all()) for mask in now(parameters)] == [True, True, False, True]
    assert not any(hasattr(module, "bias_mask") for module, _ in parameters)


def test_a_type_matches_what_derives_from_it_and_a_pattern_matches_whole_names():
    class Mine(nn.Linear):
        pass

    model = nn.Sequential(Mine(2, 2), layer((2, 2)))
    parameters = masks.select(model)
    masks.attach(parameters)
    rules(parameters, 0.5, rules=[{"match": "Mine", "method": "l1"}])
    assert [int(mask.sum()) for mask in now(parameters)] == [2, 4]
    rules(parameters, 0.5, rules=[{"match": "Linear", "method": "l1"}])
    assert [int(mask.sum()) for mask in now(parameters)] == [1, 2]
    for match in ("fc1", "weight", "linear"):
        assert "matches nothing" in refusal({"match": match, "method": "l1", "amount": 0.5})


def test_methods_get_the_scores_names_and_options_of_their_rule():
    calls.clear()
    scores = [torch.rand(shape) for shape in SHAPES]
    ruled(
        {"match": "conv2.weight", "method": f"{__name__}.note", "amount": None},
        {"match": "*2.weight", "method": f"{__name__}.note", "depth": 2, "amount": 0.25},
        {"match": "*", "method": f"{__name__}.note"},
        amount=0.5,
        scores=scores,
    )
    assert [(n, amount, names, depth) for n, amount, _, names, depth in calls] == [
        (1, None, ["conv2.weight"], 1),
        (1, 0.25, ["fc2.weight"], 2),
        (2, 0.5, ["conv1.weight", "fc1.weight"], 1),
    ]
    given_scores = [score for call in calls for score in call[2]]
    for score, place in zip(given_scores, [1, 3, 0, 2], strict=True):
        assert score is scores[place]
    calls.clear()
    ruled({"match": "*", "method": f"{__name__}.note"})
    assert calls[0][2] is None


def test_scores_decide_within_a_rule():
    weights, scores = integers(SHAPES, seed=1), integers(SHAPES, seed=2)
    by_scores = [torch.tensor(np.abs(score)).float() for score in scores]
    parameters = ruled({"match": "Linear", "method": "l1"}, amount=0.5, weights=weights, scores=by_scores)
    assert_equal(now(parameters), ONES[:2] + l1_oracle(scores[2:], ONES[2:], 0.5))


def test_a_method_may_be_a_pruning_method_or_a_score_of_yours():
    weights = integers(SHAPES, seed=3)
    parameters = ruled(
        {"match": "Conv2d", "method": f"{__name__}.FromTheEnd", "amount": 0.25},
        {"match": "Linear", "method": f"{__name__}.distance_from_one", "scope": "global", "amount": 0.5},
        weights=weights,
    )
    assert [int(mask.sum()) for mask in now(parameters)[:2]] == [24, 9]
    assert not now(parameters)[0].ravel()[24:].any()
    assert_equal(now(parameters)[2:], global_oracle(weights, ONES[2:], 0.5, [np.abs(w - 1) for w in weights[2:]]))


def test_rules_over_several_rounds_go_on_from_the_masks():
    weights = integers(SHAPES, seed=4)
    parameters = ruled({"match": "*", "method": "l1"}, amount=0.5, weights=weights)
    old = l1_oracle(weights, ONES, 0.5)
    rules(parameters, 0.5, rules=[{"match": "*", "method": "l1"}], names=NAMES)
    assert_equal(now(parameters), l1_oracle(weights, old, 0.5))


L1 = {"match": "*", "method": "l1"}


@pytest.mark.parametrize(
    ("given_rules", "amount", "said"),
    [
        ([{**L1, "match": "fc9.*"}], 0.5, ["strategy.rules[0].match=fc9.*: matches nothing", "fc1.weight (Linear)"]),
        ([L1, {"match": "Conv2d", "method": "l1"}], 0.5, ["strategy.rules[1].match=Conv2d", "the rules before it"]),
        ([{**L1, "method": "l2"}], 0.5, ["strategy.rules[0].method=l2: there is no such method", "block, global, "]),
        ([{**L1, "method": "gobal"}], 0.5, ["did you mean global?"]),
        ([{**L1, "method": "rules"}], 0.5, ["strategy.rules[0].method=rules: there is no such method"]),
        ([{**L1, "method": "os.system"}], 0.5, ["strategy.rules[0].method=os.system: only", "say trusted=[os]"]),
        (
            [{**L1, "method": "test_rules.Missing"}],
            0.5,
            ["strategy.rules[0].method=test_rules.Missing: cannot be imported"],
        ),
        ([{**L1, "dmi": 1, "method": "ln_structured"}], 0.5, ["strategy.rules[0].dmi=1", "did you mean dim?"]),
        ([{**L1, "scores": 1}], 0.5, ["strategy.rules[0].scores=1: there is no such key"]),
        ([{**L1, "amonut": 0.1}], 0.5, ["strategy.rules[0].amonut=0.1", "did you mean amount?"]),
        ([{**L1, "amount": 1}], None, ["strategy.rules[0].amount=1: must be a fraction in [0, 1)"]),
        ([{**L1, "amount": -0.1}], None, ["strategy.rules[0].amount=-0.1: must be"]),
        ([{**L1, "amount": "half"}], None, ["strategy.rules[0].amount=half: must be"]),
        ([{**L1, "amount": True}], None, ["strategy.rules[0].amount=True: must be"]),
        ([{**L1, "amount": float("nan")}], None, ["strategy.rules[0].amount=nan: must be"]),
        ([{**L1, "amount": 0.5}], 0.5, ["amount=0.5: every one of strategy.rules has an amount of its own"]),
        ([L1], None, ["strategy.rules[0] (*: l1): amount=null: this strategy needs a fraction"]),
        ([{**L1, "method": "nm"}], 0.5, ["strategy.rules[0] (*: nm): amount=0.5", "decides by itself"]),
        ([{**L1, "method": "threshold"}], None, ["strategy.rules[0].threshold=null: must be given"]),
        ([{**L1, "method": "l1", "per": "x"}], 0.5, ["strategy.rules[0] (*: l1): strategy.per=x: must be"]),
        ([{"method": "l1"}], 0.5, ["strategy.rules[0]=", "must have the keys match and method"]),
        ([{"match": "*"}], 0.5, ["must have the keys match and method"]),
        ([{"match": 3, "method": "l1"}], 0.5, ["must have the keys match and method"]),
        (["l1"], 0.5, ["strategy.rules[0]=l1: must have the keys"]),
        ([], 0.5, ["strategy.rules=[]: must be a list of rules"]),
    ],
)
def test_rules_say_what_does_not_fit(given_rules, amount, said):
    message = refusal(*given_rules, amount=amount)
    assert all(part in message for part in said), message


@pytest.mark.parametrize("wrong", ["l1", {"match": "*", "method": "l1"}, 3])
def test_rules_must_be_a_list(wrong):
    _, parameters = network(SHAPES)
    with pytest.raises(ConfigError, match=r"strategy\.rules=.*: must be a list of rules"):
        rules(parameters, 0.5, rules=wrong)


def test_nothing_is_pruned_before_every_rule_is_checked():
    _, parameters = network(SHAPES)
    for wrong in ({"match": "Linear", "method": "l2"}, {"match": "RNN", "method": "l1"}):
        with pytest.raises(ConfigError):
            rules(parameters, 0.5, rules=[{"match": "Conv2d", "method": "l1"}, wrong], names=NAMES)
    assert all(flat(parameters))


def lenet(*overrides):
    """LeNet, pruned once as the config says."""
    config = prunelab.compose(*overrides)
    model = building.bind(config, "model")()
    parameters = masks.select(model, output_layer=None if config.prune.output_layer else masks.output_layer(model))
    masks.attach(parameters)
    names = [item.name for item in masks.masked(model)]
    strategy = building.bind(config, "strategy", [], 0.5)
    functools.partial(strategy, names=names)(parameters, config.amount)
    return {item.name: item.mask.numpy().astype(bool) for item in masks.masked(model)}


def test_mixed_prunes_lenet_s_convolutions_by_weight_and_its_linear_layers_by_row():
    kept = lenet("strategy=mixed")
    weights = {name: mask for name, mask in kept.items() if name.endswith("weight")}
    convolutions = [mask for mask in weights.values() if mask.ndim == 4]
    linear = [mask for mask in weights.values() if mask.ndim == 2]
    assert (len(convolutions), len(linear)) == (2, 2)  # the output layer has no mask
    for mask in convolutions:
        assert mask.size - mask.sum() == round(0.2 * mask.size)
    for mask in linear:
        assert len(mask) - channels(mask, 0).sum() == round(0.4 * len(mask))
        assert np.array_equal(mask.all(1), mask.any(1))
    assert sum(name.endswith("bias") for name in kept) == 2  # of the pruned rows


def test_rules_of_yours_from_the_command_line():
    kept = lenet("strategy=rules", "strategy.rules=[{match: fc1.weight, method: l1, amount: 0.25}]", "amount=null")
    assert {name: bool(mask.all()) for name, mask in kept.items()}.pop("fc1.weight") is False
    assert sum(not mask.all() for mask in kept.values()) == 1


def test_the_presets():
    mixed = prunelab.compose("strategy=mixed")
    assert (mixed.amount, mixed.prune.output_layer) == (None, False)
    assert mixed.schedule._target_ == "prunelab.pruning.schedules.one_shot"
    assert prunelab.compose("strategy=rules").amount == 0.2
