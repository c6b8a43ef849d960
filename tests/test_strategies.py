"""Each strategy against an oracle in NumPy, exactly, on weights with ties; and what holds for all of them."""

import functools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from prunelab import masks, strategies
from prunelab.config import ConfigError
from prunelab.strategies.custom import EverySecond, custom
from prunelab.strategies.global_unstructured import global_unstructured
from prunelab.strategies.l1 import l1
from prunelab.strategies.ln_structured import ln_structured
from prunelab.strategies.random import random

EVERY_SECOND = "prunelab.strategies.custom.EverySecond"
HERE = (__name__,)
few = settings(deadline=None, max_examples=60, derandomize=True)
shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=3,
)
seeds = st.integers(0, 10_000)
amount_each_round = st.lists(st.floats(0, 0.99) | st.sampled_from([0.0, 0.25, 0.5, 0.75]), min_size=1, max_size=4)


# Methods and scores that `custom` looks up by name.


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


def distance_from_one(weight):
    return (weight - 1).abs()


def wrong_shape(weight):
    return weight.abs().sum(0)


def no_tensor(weight):
    return 1.0


def negative(weight):
    return -weight.abs()


NOT_A_METHOD = 3


# Models.


def layer(shape):
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0])
    return nn.Conv2d(shape[1], shape[0], shape[2:])


def network(shapes):
    model = nn.Sequential(*map(layer, shapes))
    parameters = masks.select(model)
    masks.attach(parameters)
    return model, parameters


def put(parameters, arrays):
    for (module, name), array in zip(parameters, arrays, strict=True):
        with torch.no_grad():
            getattr(module, f"{name}_orig").copy_(torch.tensor(array, dtype=torch.float32))
            setattr(module, name, getattr(module, f"{name}_orig") * getattr(module, f"{name}_mask"))


def put_masks(parameters, arrays):
    for (module, name), array in zip(parameters, arrays, strict=True):
        getattr(module, f"{name}_mask").copy_(torch.tensor(array))


def four(weights, mask=(1, 1, 1, 1), shape=(1, 4)):
    model, parameters = network([shape])
    put_masks(parameters, [np.reshape(mask, shape)])
    put(parameters, [np.reshape(weights, shape)])
    return model, parameters


def now(parameters):
    """The masks, as arrays of booleans."""
    return [getattr(module, f"{name}_mask").numpy().astype(bool) for module, name in parameters]


def flat(parameters):
    return [int(x) for mask in now(parameters) for x in mask.ravel()]


def integers(shapes, seed):
    draw = np.random.default_rng(seed)
    return [draw.integers(-3, 4, shape) for shape in shapes]


# Oracles: arrays of weights and masks → masks. None of them calls torch or prunelab.


def take(score, alive, k):
    """The k of the living with the smallest scores; of equals, the first: True where they are. All 1-D."""
    living = [i for i in range(len(score)) if alive[i]]
    gone = sorted(living, key=lambda i: (score[i], i))[:k]
    return np.isin(np.arange(len(score)), gone)


def goes(amount, n):
    return min(round(amount * n), max(n - 1, 0))


def l1_oracle(weights, old, amount, scores=None):
    new = []
    for score, mask in zip(map(np.abs, weights) if scores is None else scores, old, strict=True):
        gone = take(score.ravel(), mask.ravel(), goes(amount, int(mask.sum())))
        new.append(mask & ~gone.reshape(mask.shape))
    return new


def global_oracle(weights, old, amount, scores=None):
    scores = [np.abs(w).ravel() for w in weights] if scores is None else [s.ravel() for s in scores]
    may_go = []
    for score, mask in zip(scores, old, strict=True):
        living = np.flatnonzero(mask.ravel())
        best = max(living, key=lambda i: (score[i], i))  # the one that would go last
        may_go.append(mask.ravel() & (np.arange(mask.size) != best))
    n = sum(int(mask.sum()) for mask in old)
    gone = take(np.concatenate(scores), np.concatenate(may_go), min(round(amount * n), n - len(old)))
    parts = np.split(gone, np.cumsum([mask.size for mask in old])[:-1])
    return [mask & ~part.reshape(mask.shape) for mask, part in zip(old, parts, strict=True)]


def channel_scores(weight, n, dim):
    """Exact for integers: of the L2 norm, its square."""
    rows = np.abs(np.moveaxis(weight, dim, 0).reshape(weight.shape[dim], -1))
    return {1: rows.sum(1), 2: (rows**2).sum(1), float("inf"): rows.max(1)}[n]


def channels(mask, dim):
    return np.moveaxis(mask, dim, 0).reshape(mask.shape[dim], -1).any(1)


def ln_oracle(weights, old, amount, n, dim):
    new = []
    for weight, mask in zip(weights, old, strict=True):
        alive = channels(mask, dim)
        gone = take(channel_scores(weight * mask, n, dim), alive, goes(amount, int(alive.sum())))
        shape = [1] * mask.ndim
        shape[dim] = -1
        new.append(mask & ~gone.reshape(shape))
    return new


def assert_equal(actual, expected):
    for mask, by_hand in zip(actual, expected, strict=True):
        assert np.array_equal(mask, by_hand)


def in_rounds(strategy, oracle, shapes, plan, seed):
    """Prunes in several rounds, with new weights before each: every mask must be the oracle's."""
    _, parameters = network(shapes)
    for t, amount in enumerate(plan):
        weights, old = integers(shapes, seed + t), now(parameters)
        put(parameters, weights)
        strategy(parameters, amount)
        assert_equal(now(parameters), oracle(weights, old, amount))


@few
@given(shapes, amount_each_round, seeds)
def test_l1_is_the_oracle(shapes, plan, seed):
    in_rounds(l1, l1_oracle, shapes, plan, seed)


@few
@given(shapes, amount_each_round, seeds)
def test_global_is_the_oracle(shapes, plan, seed):
    in_rounds(global_unstructured, global_oracle, shapes, plan, seed)


@few
@given(shapes, amount_each_round, seeds, st.sampled_from([1, 2, float("inf")]), st.sampled_from([0, 1]))
def test_ln_structured_is_the_oracle(shapes, plan, seed, n, dim):
    strategy = functools.partial(ln_structured, n=n, dim=dim)
    in_rounds(strategy, functools.partial(ln_oracle, n=n, dim=dim), shapes, plan, seed)


@few
@given(shapes, amount_each_round, seeds, st.sampled_from([1, 2, float("inf")]), st.sampled_from([0, 1]))
def test_ln_structured_goes_on_from_scattered_masks(shapes, plan, seed, n, dim):
    _, parameters = network(shapes)
    old = [mask > -2 for mask in integers(shapes, seed + 99)]
    put_masks(parameters, old)
    weights = integers(shapes, seed)
    put(parameters, weights)
    for amount in plan:
        ln_structured(parameters, amount, n=n, dim=dim)
        old = ln_oracle(weights, old, amount, n, dim)
        assert_equal(now(parameters), old)


@few
@given(shapes, amount_each_round, seeds)
def test_a_bias_goes_with_its_output_channel_and_no_other(shapes, plan, seed):
    _, parameters = network(shapes)
    for t, amount in enumerate(plan):
        put(parameters, integers(shapes, seed + t))
        ln_structured(parameters, amount, dim=0)
    for (module, _), mask in zip(parameters, now(parameters), strict=True):
        assert np.array_equal(module.bias_mask.numpy(), channels(mask, 0))


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


@few
@given(shapes, amount_each_round, seeds, st.sampled_from(["local", "global"]))
def test_custom_score_is_the_oracle(shapes, plan, seed, scope):
    def oracle(weights, old, amount):
        scores = [np.abs(weight - 1) for weight in weights]
        return (l1_oracle if scope == "local" else global_oracle)(weights, old, amount, scores)

    method = f"{__name__}.distance_from_one"
    in_rounds(functools.partial(custom, method=method, scope=scope, trusted=HERE), oracle, shapes, plan, seed)


# Worked by hand.


@pytest.mark.parametrize(
    ("weights", "mask", "amount", "expected"),
    [
        ((-4, 3, -2, 1), (1, 1, 1, 1), 0.25, [1, 1, 1, 0]),
        ((-4, 3, -2, 1), (1, 1, 1, 0), 1 / 3, [1, 1, 0, 0]),  # of those still there
        ((2, 1, 1, 1), (1, 1, 1, 1), 0.5, [1, 0, 0, 1]),  # of equals, the first go first
        ((0, 0, 5, 0), (0, 1, 1, 1), 1 / 3, [0, 0, 1, 1]),  # what is gone is not counted again
        ((1, 2, 3, 4), (1, 1, 1, 0), 0.5, [0, 0, 1, 0]),  # round(1.5) = 2
        ((1, 2, 3, 4), (1, 1, 1, 1), 0.125, [1, 1, 1, 1]),  # round(0.5) = 0
        ((1, 2, 3, 4), (1, 1, 1, 1), 0.375, [0, 0, 1, 1]),  # round(1.5) = 2
        ((1, 2, 3, 4), (1, 1, 1, 1), 0.99, [0, 0, 0, 1]),  # never the last
        ((1, 2, 3, 4), (0, 1, 0, 0), 0.99, [0, 1, 0, 0]),
    ],
)
@pytest.mark.parametrize("strategy", [l1, global_unstructured])
def test_magnitude_of_four(strategy, weights, mask, amount, expected):
    _, parameters = four(weights, mask)
    strategy(parameters, amount)
    assert flat(parameters) == expected


def test_five_halves_round_to_two():
    _, parameters = network([(1, 5)])
    put(parameters, [np.array([[5, 4, 3, 2, 1]])])
    l1(parameters, 0.5)
    assert flat(parameters) == [1, 1, 1, 0, 0]


def test_local_takes_from_each_tensor_and_global_from_where_the_smallest_are():
    weights = [np.array([[1, 2]]), np.array([[3, 4], [5, 6]])]
    _, parameters = network([(1, 2), (2, 2)])
    put(parameters, weights)
    l1(parameters, 0.5)
    assert flat(parameters) == [0, 1, 0, 0, 1, 1]
    _, parameters = network([(1, 2), (2, 2)])
    put(parameters, weights)
    global_unstructured(parameters, 0.5)
    assert flat(parameters) == [0, 1, 0, 0, 1, 1]  # 2 is the last of its tensor: 4 goes instead
    global_unstructured(parameters, 0.9)
    assert flat(parameters) == [0, 1, 0, 0, 0, 1]


def test_global_ties_go_in_the_order_of_the_tensors():
    _, parameters = network([(2, 2), (2, 2)])
    put(parameters, [np.ones((2, 2)), np.ones((2, 2))])
    global_unstructured(parameters, 5 / 8)
    assert flat(parameters) == [0, 0, 0, 1, 0, 0, 1, 1]


def test_scores_take_the_place_of_magnitude():
    _, parameters = four((1, 2, 3, 4))
    l1(parameters, 0.25, scores=[torch.tensor([[4.0, 3.0, 2.0, 1.0]])])
    assert flat(parameters) == [1, 1, 1, 0]
    global_unstructured(parameters, 1 / 3, scores=[torch.tensor([[4.0, 3.0, 2.0, 1.0]])])
    assert flat(parameters) == [1, 1, 0, 0]
    _, parameters = four((1, 1, 2, 2), shape=(2, 2))
    ln_structured(parameters, 0.5, scores=[torch.tensor([[4.0, 3.0], [2.0, 1.0]])])
    assert flat(parameters) == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("n", "dim", "expected"),
    [
        (1, 0, [1, 1, 0, 0]),  # 3 + 3 > 5 + 0
        (2, 0, [0, 0, 1, 1]),  # 9 + 9 < 25
        (float("inf"), 0, [0, 0, 1, 1]),  # 3 < 5
        (2, 1, [1, 0, 1, 0]),  # 9 + 25 > 9
    ],
)
def test_ln_structured_of_four(n, dim, expected):
    _, parameters = four((3, -3, -5, 0), shape=(2, 2))
    ln_structured(parameters, 0.5, n=n, dim=dim)
    assert flat(parameters) == expected


def test_ln_structured_of_equal_channels_takes_the_first():
    _, parameters = network([(4, 1)])
    put(parameters, [np.array([[2], [-1], [1], [1]])])
    ln_structured(parameters, 0.5)
    assert flat(parameters) == [1, 0, 0, 1]


@pytest.mark.parametrize("n", [1, 2, 10, 20, 100, float("inf")])
def test_ln_structured_of_many_channels_takes_the_smallest_whatever_the_norm(n):
    _, parameters = network([(200, 2)])
    put(parameters, [np.linspace(2, 1, 200)[:, None].repeat(2, 1)])
    ln_structured(parameters, 0.5, n=n)
    assert flat(parameters) == [1] * 200 + [0] * 200


def test_a_pruned_output_channel_emits_nothing():
    model, parameters = network([(4, 3, 2, 2)])
    ln_structured(parameters, 0.5)
    channel = model(torch.rand(5, 3, 2, 2)).abs().amax((0, 2, 3)) > 0
    assert channel.tolist() == channels(now(parameters)[0], 0).tolist()
    assert int(channel.sum()) == 2


def test_a_pruned_input_channel_leaves_the_bias_alone():
    _, parameters = network([(2, 4)])
    ln_structured(parameters, 0.5, dim=1)
    assert not hasattr(parameters[0][0], "bias_mask")


def test_ln_structured_without_a_bias():
    model = nn.Sequential(nn.Linear(2, 4, bias=False))
    parameters = masks.select(model)
    masks.attach(parameters)
    ln_structured(parameters, 0.5)
    assert [item.name for item in masks.masked(model)] == ["0.weight"]


def test_ln_structured_leaves_the_biases_of_a_transposed_convolution_s_living_channels():
    model = nn.Sequential(nn.ConvTranspose2d(2, 2, 1))  # weight [in, out, 1, 1]
    parameters = masks.select(model)
    masks.attach(parameters)
    put(parameters, [np.array([[3, 3], [1, 1]]).reshape(2, 2, 1, 1)])
    ln_structured(parameters, 0.5, dim=0)
    emits = now(parameters)[0].any((0, 2, 3))
    kept = getattr(model[0], "bias_mask", torch.ones(2)).numpy().astype(bool)
    assert not (emits & ~kept).any()


@pytest.mark.parametrize(("n", "dim"), [(0, 0), (-1, 0), (float("nan"), 0), ("two", 0), (2, 2), (2, -3), (2, 7)])
def test_ln_structured_refuses_what_is_no_norm_or_no_channel(n, dim):
    _, parameters = network([(2, 2)])
    with pytest.raises(ConfigError, match=r"strategy\.(n|dim)="):
        ln_structured(parameters, 0.5, n=n, dim=dim)


@pytest.mark.parametrize("dim", [0, 1])
def test_ln_structured_refuses_a_tensor_without_channels(dim):
    model = nn.Sequential(nn.Linear(2, 4))
    parameters = masks.select(model, ["0.bias"])
    masks.attach(parameters)
    with pytest.raises(ConfigError, match=rf"strategy\.dim={dim}: bias of Linear has shape \[4\]"):
        ln_structured(parameters, 0.5, dim=dim)


def test_ln_structured_counts_dim_from_the_end_in_each_tensor():
    _, parameters = network([(2, 2, 1, 1), (2, 2)])
    put(parameters, [np.ones((2, 2, 1, 1)), np.array([[1, 2], [1, 2]])])
    ln_structured(parameters, 0.5, dim=-1)
    assert flat(parameters) == [1, 1, 1, 1, 0, 1, 0, 1]


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("strategy", [random, l1, global_unstructured, ln_structured])
def test_a_gpu_prunes_what_the_cpu_prunes(strategy):
    both = []
    for device in ("cpu", "cuda"):
        model, parameters = network([(8, 4), (4, 8)])
        put(parameters, integers([(8, 4), (4, 8)], seed=0))
        model.to(device)
        for seed in (0, 1):
            torch.manual_seed(seed)
            strategies.prune(model, parameters, strategy, 0.5)
        model.cpu()
        both.append(flat(parameters))
    assert both[0] == both[1]


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
        ("nn.Linear", 0.5, "local", "must be a class or function defined in"),
        ("NOT_A_METHOD", 0.5, "local", "must be a class or function defined in"),
        ("Missing", 0.5, "local", "cannot be imported"),
        ("torch.nn.utils.prune.Missing", 0.5, "local", "cannot be imported"),
        ("prunelab.strategies.custom.ConfigError", 0.5, "local", "must be a class or function defined in"),
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


def test_negative_scores_and_nan_weights_are_refused():
    _, parameters = four((1, 2, 3, 4))
    with pytest.raises(ValueError, match="finite and ≥ 0"):
        custom(parameters, 0.5, method=f"{__name__}.negative", trusted=HERE)
    for strategy in (l1, global_unstructured, ln_structured):
        _, parameters = four((1, 2, float("nan"), 4), shape=(2, 2))
        with pytest.raises(ValueError, match="finite and ≥ 0"):
            strategy(parameters, 0.5)


# What holds for all strategies, as a round calls them: through strategies.prune.

UNSTRUCTURED = {
    "l1": l1,
    "random": random,
    "global": global_unstructured,
    "every_second": functools.partial(custom, method=EVERY_SECOND),
    "score": functools.partial(custom, method=f"{__name__}.distance_from_one", trusted=HERE),
    "global_score": functools.partial(custom, method=f"{__name__}.distance_from_one", scope="global", trusted=HERE),
}
STRUCTURED = {"out": ln_structured, "in": functools.partial(ln_structured, dim=1, n=1)}
EVERY = {**UNSTRUCTURED, **STRUCTURED}


def pruned(model, parameters, strategy, amount):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strategies.prune(model, parameters, strategy, amount)
    return now(parameters)


def count(units, of):
    return [int(unit.sum()) for unit in units] if of == "each" else [sum(int(unit.sum()) for unit in units)]


@pytest.mark.parametrize("name", UNSTRUCTURED)
@few
@given(shapes=shapes, plan=amount_each_round, seed=seeds)
def test_exactly_round_amount_n_of_the_unpruned_go_and_masks_only_shrink(name, shapes, plan, seed):
    model, parameters = network(shapes)
    put(parameters, integers(shapes, seed))
    scope = "all" if "global" in name else "each"
    for amount in plan:
        old = now(parameters)
        new = pruned(model, parameters, UNSTRUCTURED[name], amount)
        assert not any((after & ~before).any() for before, after in zip(old, new, strict=True))
        for n, left in zip(count(old, scope), count(new, scope), strict=True):
            keeps = len(shapes) if scope == "all" else 1
            assert n - left == min(round(amount * n), n - keeps)
        assert all(mask.any() for mask in new)


@pytest.mark.parametrize("name", STRUCTURED)
@few
@given(shapes=shapes, plan=amount_each_round, seed=seeds)
def test_exactly_round_amount_n_of_the_living_channels_go(name, shapes, plan, seed):
    model, parameters = network(shapes)
    put(parameters, integers(shapes, seed))
    dim = 0 if name == "out" else 1
    for amount in plan:
        old = now(parameters)
        for before, after in zip(old, pruned(model, parameters, STRUCTURED[name], amount), strict=True):
            was, is_ = channels(before, dim), channels(after, dim)
            assert was.sum() - is_.sum() == goes(amount, int(was.sum()))
            assert not (after & ~before).any()
            whole = np.moveaxis(after, dim, 0).reshape(len(is_), -1)
            assert np.array_equal(whole.all(1), is_)  # a channel goes whole or not at all


@few
@given(shapes, st.floats(0, 0.99), seeds)
def test_l1_largest_pruned_is_at_most_smallest_kept(shapes, amount, seed):
    model, parameters = network(shapes)
    weights = integers(shapes, seed)
    put(parameters, weights)
    for weight, mask in zip(weights, pruned(model, parameters, l1, amount), strict=True):
        assert np.abs(weight)[~mask].max(initial=0) <= np.abs(weight)[mask].min()


@few
@given(shapes, st.floats(0, 0.99), seeds)
def test_global_largest_pruned_is_at_most_smallest_kept(shapes, amount, seed):
    model, parameters = network(shapes)
    weights = integers(shapes, seed)
    put(parameters, weights)
    new = pruned(model, parameters, global_unstructured, amount)
    gone = [np.abs(weight)[~mask] for weight, mask in zip(weights, new, strict=True)]
    # A tensor's last weight stays however small it is.
    kept = [np.abs(weight)[mask] for weight, mask in zip(weights, new, strict=True) if mask.sum() > 1]
    assert np.concatenate(gone).max(initial=0) <= np.concatenate([*kept, [99]]).min()


@few
@given(shapes, st.floats(0, 0.99), seeds, st.sampled_from([1, 2, float("inf")]), st.sampled_from([0, 1]))
def test_ln_largest_pruned_norm_is_at_most_smallest_kept(shapes, amount, seed, n, dim):
    model, parameters = network(shapes)
    weights = integers(shapes, seed)
    put(parameters, weights)
    new = pruned(model, parameters, functools.partial(ln_structured, n=n, dim=dim), amount)
    for weight, mask in zip(weights, new, strict=True):
        norms, kept = channel_scores(weight, n, dim), channels(mask, dim)
        assert norms[~kept].max(initial=0) <= norms[kept].min()


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


@pytest.mark.parametrize("name", EVERY)
def test_strategies_leave_the_weights_under_the_masks_alone(name):
    shapes = [(3, 4), (2, 3, 2, 2)]
    model, parameters = network(shapes)
    weights = integers(shapes, seed=2)
    put(parameters, weights)
    pruned(model, parameters, EVERY[name], 0.5)
    for (module, _), weight in zip(parameters, weights, strict=True):
        assert np.array_equal(module.weight_orig.detach().numpy(), weight)
        assert np.array_equal(module.weight.detach().numpy(), weight * module.weight_mask.numpy())
        assert module.weight_orig.requires_grad


@pytest.mark.parametrize("name", EVERY)
def test_strategies_prune_models_in_channels_last(name):
    model = nn.Sequential(nn.Conv2d(4, 4, 3)).to(memory_format=torch.channels_last)
    parameters = masks.select(model)
    masks.attach(parameters)
    torch.manual_seed(0)
    assert pruned(model, parameters, EVERY[name], 0.5)[0].mean() == 0.5


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


@pytest.mark.parametrize("strategy", [l1, random, global_unstructured])
def test_strategies_warn_at_the_last_weight(strategy):
    model, parameters = four((1, 2, 3, 4))
    with pytest.warns(UserWarning, match=r"0\.weight is down to its last weight"):
        strategies.prune(model, parameters, strategy, 0.9)
    assert sum(flat(parameters)) == 1
    strategies.prune(model, parameters, strategy, 0.9)
    assert sum(flat(parameters)) == 1


@pytest.mark.parametrize(("dim", "expected"), [(0, [0, 0, 1, 1]), (1, [0, 1, 0, 1])])
def test_the_last_channel_stays_with_a_warning(dim, expected):
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    parameters = masks.select(model)
    masks.attach(parameters)
    put(parameters, [np.array([[1, 2], [3, 4]])])
    strategy = functools.partial(ln_structured, dim=dim)
    with pytest.warns(UserWarning, match=r"0\.weight is down to its last channel, which stays"):
        strategies.prune(model, parameters, strategy, 0.99)
    assert flat(parameters) == expected
    strategies.prune(model, parameters, strategy, 0.99)
    assert flat(parameters) == expected


def test_a_layer_that_always_had_one_output_is_no_reason_to_warn():
    model, parameters = four((1, 2, 3, 4))
    strategies.prune(model, parameters, ln_structured, 0.5)
    assert flat(parameters) == [1, 1, 1, 1]


def test_a_strategy_that_revives_a_weight_raises():
    model, parameters = four((1, 2, 3, 4), mask=(1, 1, 0, 1))
    with pytest.raises(RuntimeError, match=r"0\.weight: the strategy revived pruned weights"):
        strategies.prune(model, parameters, revive, 0.5)


def test_count_is_python_s_round_and_never_the_last():
    assert [strategies.count(0.5, n) for n in range(6)] == [0, 0, 1, 2, 2, 2]
    assert [strategies.count(0.99, n) for n in (0, 1, 2, 100)] == [0, 0, 1, 99]
    assert strategies.count(0.0, 4) == 0
    _, parameters = four((1, 2, 3, 4), mask=(1, 0, 0, 1))
    assert strategies.unpruned(*parameters[0]) == 2
