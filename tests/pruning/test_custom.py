"""The user's own pruning methods: torch's BasePruningMethod, or a function that scores one tensor."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import (
    amount_each_round,
    distance_from_one,
    few,
    flat,
    four,
    global_oracle,
    in_rounds,
    l1_oracle,
    pruned,
    pruner,
    seeds,
    shapes,
)
from torch.nn.utils import prune

from prunelab.errors import ConfigError
from prunelab.pruning.custom import EverySecond, score_each

BOTH = pytest.mark.parametrize("allocation", ["local", "global"])


class Threshold(prune.BasePruningMethod):
    """Prunes what is below 2, and takes no amount."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t, default_mask):
        return default_mask * (t.abs() >= 2)


class FromTheEnd(prune.BasePruningMethod):
    PRUNING_TYPE = "unstructured"

    def __init__(self, amount):
        self.amount = amount

    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[t.numel() - round(self.amount * t.numel()) :] = 0
        return mask


class Everything(prune.BasePruningMethod):
    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t, default_mask):
        return torch.zeros_like(default_mask)


def wrong_shape(weight):
    return weight.abs().sum(0)


def no_tensor(weight):
    return 1.0


@few
@given(shapes, amount_each_round, seeds, st.sampled_from(["local", "global"]))
def test_a_score_of_yours_is_the_oracle(shapes, plan, seed, allocation):
    def oracle(weights, old, amount):
        scores = [np.abs(weight * mask - 1) for weight, mask in zip(weights, old, strict=True)]
        return (l1_oracle if allocation == "local" else global_oracle)(weights, old, amount, scores)

    found = pruner(shapes, allocation, criterion=score_each(distance_from_one, "distance_from_one"))
    in_rounds(found, oracle, plan, seed)


@pytest.mark.parametrize(
    ("mask", "amount", "expected"),
    [
        ((1, 1, 1, 1), 0.5, [0, 1, 0, 1]),  # every second
        ((1, 1, 1, 1), 0.25, [0, 1, 1, 1]),  # every fourth
        ((1, 1, 1, 1), 0.75, [0, 0, 0, 1]),  # ⌈i · 3/4⌉ = 0, 1, 2, 3, 3
        ((0, 1, 0, 1), 0.5, [0, 0, 0, 1]),  # every second of those still there
        ((1, 0, 1, 1), 0.5, [0, 0, 0, 1]),  # round(1.5) = 2 of 3: ⌈i · 2/3⌉ = 0, 1, 2, 2
        ((1, 1, 1, 1), 0.0, [1, 1, 1, 1]),
    ],
)
def test_every_second_of_four(mask, amount, expected):
    found = four((1, 2, 3, 4), mask, method=EverySecond)
    pruned(found, amount)
    assert flat(found) == expected


@pytest.mark.parametrize(
    ("allocation", "amount", "expected"), [("local", 0.4, [0, 1, 1, 0, 1, 1]), ("global", 0.5, [0, 1, 0, 1, 0, 1])]
)
def test_every_second_locally_and_globally(allocation, amount, expected):
    found = pruner([(1, 3), (1, 3)], allocation, method=EverySecond)
    pruned(found, amount)
    assert flat(found) == expected


@few
@given(st.integers(0, 60), st.floats(0, 1))
def test_every_second_is_exact_and_even(n, amount):
    gone = EverySecond(amount).compute_mask(torch.ones(n), torch.ones(n)).numpy() == 0
    k = round(amount * n)
    assert gone.sum() == k
    assert all(abs(gone[:i].sum() - i * k / n) < 1 for i in range(1, n + 1))


def test_every_second_keeps_the_shape():
    mask = EverySecond().compute_mask(torch.ones(2, 1, 2), torch.ones(2, 1, 2))
    assert mask.tolist() == [[[0, 1]], [[0, 1]]]


def test_a_method_of_yours_sees_only_what_is_still_there():
    found = four((1, 2, 3, 4), (1, 1, 1, 0), method=FromTheEnd)
    found.prune(1 / 3)
    assert flat(found) == [1, 1, 0, 0]


@BOTH
def test_a_method_that_takes_no_amount(allocation):
    found = four((1, 2, 3, 1), allocation=allocation, method=Threshold)
    found.prune()
    assert flat(found) == [0, 1, 1, 0]


@BOTH
def test_torch_s_own_methods_prune_what_they_prune_in_torch(allocation):
    shapes, amount = [(4, 6), (3, 4)], 0.4
    found = pruner(shapes, allocation, method=prune.L1Unstructured)
    layers = [torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)]
    for layer, item in zip(layers, found.items, strict=True):
        layer.load_state_dict({"weight": item.parameter.detach(), "bias": layer.bias.detach()})
    if allocation == "local":
        for layer in layers:
            prune.l1_unstructured(layer, "weight", amount)
    else:
        prune.global_unstructured([(layer, "weight") for layer in layers], prune.L1Unstructured, amount=amount)
    found.prune(amount)
    assert flat(found) == [int(x) for layer in layers for x in layer.weight_mask.flatten()]


@BOTH
def test_the_best_weight_stays_with_a_warning(allocation):
    found = four((1, 2, -3, 4), (1, 1, 1, 0), allocation=allocation, method=Everything)
    with pytest.warns(UserWarning, match=r"0\.weight is down to its last weight, which stays"):
        found.prune()
    assert flat(found) == [0, 0, 1, 0]  # the best of those still there; 4 was gone
    assert found.items[0].parameter.tolist() == [[0, 0, -3, 0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.prune()  # said once
    assert flat(found) == [0, 0, 1, 0]


def test_of_equal_best_weights_one_stays():
    found = four((0, 0, 0, 0), method=Everything)
    with pytest.warns(UserWarning, match="last weight"):
        found.prune()
    assert sum(flat(found)) == 1


@pytest.mark.parametrize(
    ("method", "amount", "allocation", "said"),
    [
        (EverySecond, None, "local", "amount=null: strategy.method=EverySecond needs a fraction"),
        (EverySecond, 1.0, "local", "amount=1.0: must be a fraction in [0, 1)"),
        (Threshold, 0.5, "local", "sets its own sparsity; amount must be null"),
        (Threshold, 0.0, "global", "sets its own sparsity; amount must be null"),
        (prune.LnStructured, 0.5, "local", "strategy.method=LnStructured"),
        (prune.LnStructured, 0.5, "global", "strategy.method=LnStructured"),
        (prune.RandomStructured, 0.5, "global", "strategy.method=RandomStructured: allocation=global needs an unstr"),
        (prune.CustomFromMask, None, "local", "strategy.method=CustomFromMask"),
        (prune.BasePruningMethod, None, "local", "strategy.method=BasePruningMethod"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(method, amount, allocation, said):
    found = four((1, 2, 3, 4), method=method, allocation=allocation)
    with pytest.raises(ConfigError) as error:
        found.prune(amount)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert flat(found) == [1, 1, 1, 1]


@BOTH
@pytest.mark.parametrize("function", [wrong_shape, no_tensor])
def test_a_score_of_another_shape_is_refused(allocation, function):
    found = four((1, 2, 3, 4), allocation=allocation, criterion=score_each(function, function.__name__))
    with pytest.raises(ConfigError, match=f"strategy.method={function.__name__}: must return one score for each"):
        found.prune(0.5)


def test_negative_scores_are_refused():
    found = four((1, 2, 3, 4), criterion=score_each(lambda weight: -weight.abs(), "negative"))
    with pytest.raises(ValueError, match="finite and ≥ 0"):
        found.prune(0.5)
