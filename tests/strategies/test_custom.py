"""`custom`: a pruning method of yours, or a score, by dotted name."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import amount_each_round, few, flat, four, global_oracle, in_rounds, l1_oracle, network, seeds, shapes
from oracles import distance_from_one as distance_from_one  # looked up here by name
from prunelab.pruning.strategies.custom import EverySecond, custom
from torch.nn.utils import prune

from prunelab.config.schema import ConfigError

EVERY_SECOND = "prunelab.pruning.strategies.custom.EverySecond"


HERE = (__name__, "oracles")


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


def wrong_shape(weight):
    return weight.abs().sum(0)


def no_tensor(weight):
    return 1.0


def negative(weight):
    return -weight.abs()


NOT_A_METHOD = 3


@few
@given(shapes, amount_each_round, seeds, st.sampled_from(["local", "global"]))
def test_custom_score_is_the_oracle(shapes, plan, seed, scope):
    def oracle(weights, old, amount):
        scores = [np.abs(weight - 1) for weight in weights]
        return (l1_oracle if scope == "local" else global_oracle)(weights, old, amount, scores)

    method = f"{__name__}.distance_from_one"
    in_rounds(functools.partial(custom, method=method, scope=scope, trusted=HERE), oracle, shapes, plan, seed)


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
    _, parameters = four((1, 2, 3, 4), mask)
    custom(parameters, amount, method=EVERY_SECOND)
    assert flat(parameters) == expected


def test_every_second_locally_and_globally():
    for scope, expected in [("local", [0, 1, 1, 0, 1, 1]), ("global", [0, 1, 0, 1, 0, 1])]:
        _, parameters = network([(1, 3), (1, 3)])
        custom(parameters, 0.4 if scope == "local" else 0.5, method=EVERY_SECOND, scope=scope)
        assert flat(parameters) == expected


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


def test_custom_method_of_a_package_of_yours():
    _, parameters = four((1, 2, 3, 4), (1, 1, 1, 0))
    custom(parameters, 1 / 3, method=f"{__name__}.FromTheEnd", trusted=HERE)
    assert flat(parameters) == [1, 1, 0, 0]


@pytest.mark.parametrize("scope", ["local", "global"])
def test_custom_method_that_takes_no_amount(scope):
    _, parameters = four((1, -2, 3, 0))
    custom(parameters, None, method=f"{__name__}.Threshold", scope=scope, trusted=HERE)
    assert flat(parameters) == [0, 1, 1, 0]


def test_custom_score_by_hand():
    _, parameters = four((1, -1, 3, 2))
    custom(parameters, 0.5, method=f"{__name__}.distance_from_one", trusted=HERE)  # 0, 2, 2, 1
    assert flat(parameters) == [0, 1, 1, 0]


def test_custom_score_is_of_what_the_optimizer_moves_and_not_of_a_stale_weight():
    _, parameters = four((1, 2, 3, 4))
    with torch.no_grad():
        parameters[0][0].weight_orig.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    custom(parameters, 0.5, method=f"{__name__}.distance_from_one", trusted=HERE)
    assert flat(parameters) == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("method", "amount", "scope", "said"),
    [
        (EVERY_SECOND, 0.5, "both", "strategy.scope=both: must be local or global"),
        (EVERY_SECOND, None, "local", f"amount=null: strategy.method={EVERY_SECOND} needs an amount"),
        ("Threshold", 0.5, "local", "takes no amount and decides by itself: amount=null"),
        ("Threshold", 0.0, "global", "takes no amount and decides by itself: amount=null"),
        ("distance_from_one", None, "local", "scores weights; amount must be in"),
        ("wrong_shape", 0.5, "local", "must return one score for each weight"),
        ("no_tensor", 0.5, "global", "must return one score for each weight"),
        ("functools.partial", 0.5, "local", "must be a class or function defined in"),
        ("NOT_A_METHOD", 0.5, "local", "must be a class or function defined in"),
        ("Missing", 0.5, "local", "cannot be imported"),
        ("torch.nn.utils.prune.Missing", 0.5, "local", "cannot be imported"),
        ("prunelab.pruning.strategies.custom.ConfigError", 0.5, "local", "must be a class or function defined in"),
        ("torch.nn.utils.prune.LnStructured", 0.5, "local", "strategy.method=torch.nn.utils.prune.LnStructured"),
        ("torch.nn.utils.prune.LnStructured", 0.5, "global", "strategy.method=torch.nn.utils.prune.LnStructured"),
        ("torch.nn.utils.prune.RandomStructured", 0.5, "global", "strategy.method=torch.nn.utils.prune.Random"),
        ("torch.nn.utils.prune.CustomFromMask", None, "local", "strategy.method=torch.nn.utils.prune.CustomFromMask"),
        ("torch.nn.utils.prune.BasePruningMethod", None, "local", "strategy.method=torch.nn.utils.prune.BasePruning"),
    ],
)
def test_custom_says_what_does_not_fit(method, amount, scope, said):
    _, parameters = four((1, 2, 3, 4))
    dotted = method if method.startswith(("torch.", "prunelab.")) else f"{__name__}.{method}"
    with pytest.raises(ConfigError) as error:
        custom(parameters, amount, method=dotted, scope=scope, trusted=HERE if dotted != method else ())
    assert said in str(error.value)
    assert flat(parameters) == [1, 1, 1, 1]


def test_custom_runs_nothing_that_is_not_trusted():
    _, parameters = four((1, 2, 3, 4))
    with pytest.raises(ConfigError, match=rf"say trusted=\[{__name__}\]"):
        custom(parameters, 0.5, method=f"{__name__}.FromTheEnd")


def test_custom_refuses_a_class_that_is_no_pruning_method():
    _, parameters = four((1, 2, 3, 4))
    with pytest.raises(ConfigError, match=r"must be a prune.BasePruningMethod or a function score\(weight\)"):
        custom(parameters, 0.5, method=f"{__name__}.Plain", trusted=HERE)


class Plain:
    pass


def test_custom_refuses_negative_scores():
    _, parameters = four((1, 2, 3, 4))
    with pytest.raises(ValueError, match="finite and ≥ 0"):
        custom(parameters, 0.5, method=f"{__name__}.negative", trusted=HERE)
