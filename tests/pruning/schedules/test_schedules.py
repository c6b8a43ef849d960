"""Schedules: by hand, and by formulas of sparsity."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunelab.errors import ConfigError
from prunelab.pruning import schedules
from prunelab.pruning.schedules.base import Round


def sparsities(plan):
    """The sparsity after each round, by taking away what each amount takes of what is still there."""
    left = itertools.accumulate(plan, lambda left, amount: left * (1 - amount), initial=1.0)
    return [1 - x for x in left][1:]


def test_iterative_takes_the_same_amount_of_what_is_left():
    plan = schedules.iterative(0.2, 5)
    assert plan == [0.2] * 5
    assert sparsities(plan) == pytest.approx([0.2, 0.36, 0.488, 0.5904, 0.67232])  # 1 - 0.8^t
    assert schedules.iterative(None, 2) == [None, None]


def test_one_shot_has_one_round():
    assert schedules.one_shot(0.5) == [0.5]
    assert schedules.one_shot(None) == [None]
    with pytest.raises(ConfigError, match=r"schedule.rounds=2: schedule=one_shot has 1 round"):
        schedules.one_shot(0.5, 2)


def test_ramp_is_spoken_in_round_numbers():
    assert schedules.ramp(0.2, 5) == [0.2, 0.3, 0.4, 0.5, 0.6]
    assert schedules.ramp(0.1, 3) == [0.1, 0.2, 0.3]
    assert schedules.ramp(0.5, 3, -0.25) == [0.5, 0.25, 0]
    assert schedules.ramp(0.2, 2, 0) == [0.2, 0.2]
    assert schedules.ramp(0.5, 2, 0.25) == [0.5, 0.75]


@pytest.mark.parametrize(
    ("amount", "rounds", "step", "said"),
    [
        (0.2, 5, 0.2, r"schedule.step=0.2: round 5 would remove 1; must stay in \[0, 1\)"),
        (0.2, 5, -0.3, r"schedule.step=-0.3: round 2 would remove -0.1;"),
        (0.5, 3, 0.25, "round 3 would remove"),
        (None, 3, 0.1, r"amount=null: schedule=ramp needs a fraction in \[0, 1\)"),
    ],
)
def test_ramp_stays_in_its_range(amount, rounds, step, said):
    with pytest.raises(ConfigError, match=said):
        schedules.ramp(amount, rounds, step)


def test_linear_by_hand():
    assert schedules.linear(4, 0.8) == pytest.approx([0.2, 1 / 4, 1 / 3, 1 / 2])  # to 0.2, 0.4, 0.6, 0.8


def test_cubic_by_hand():
    assert schedules.cubic(2, 0.8) == pytest.approx([0.7, 1 / 3])  # to 0.8 · 7/8 = 0.7, then to 0.8
    assert sparsities(schedules.cubic(5, 0.9)) == pytest.approx([0.4392, 0.7056, 0.8424, 0.8928, 0.9])


def test_geometric_by_hand():
    assert schedules.geometric(2, 0.75) == pytest.approx([0.5, 0.5])
    assert schedules.geometric(5, 0.67232) == pytest.approx([0.2] * 5)  # 0.8^5 = 0.32768


FORMULAS = {
    "linear": lambda s, x: s * x,
    "cubic": lambda s, x: s - s * (1 - x) * (1 - x) * (1 - x),
    "geometric": lambda s, x: -math.expm1(x * math.log1p(-s)),
}


@pytest.mark.parametrize("name", FORMULAS)
@settings(deadline=None, max_examples=100, derandomize=True)
@given(sparsity=st.floats(0.001, 0.999), rounds=st.integers(1, 30))
def test_composed_amounts_give_the_formula_s_sparsities(name, sparsity, rounds):
    plan = getattr(schedules, name)(rounds, sparsity)
    assert len(plan) == rounds
    assert all(0 <= amount < 1 for amount in plan)
    assert sparsities(plan) == pytest.approx([FORMULAS[name](sparsity, t / rounds) for t in range(1, rounds + 1)])


def test_cubic_takes_most_at_first_and_geometric_always_the_same():
    steps = [b - a for a, b in itertools.pairwise([0, *sparsities(schedules.cubic(6, 0.9))])]
    assert steps == sorted(steps, reverse=True)
    plan = schedules.geometric(6, 0.9)
    assert plan == pytest.approx([plan[0]] * 6)


def test_gradual_is_cubic_in_steps_of_one_round():
    (plan,) = schedules.gradual(0.8, every=7, prunings=2)
    assert plan.amounts == pytest.approx((0.7, 1 / 3))  # to 0.8 · 7/8 = 0.7, then to 0.8
    assert plan.every == 7
    assert plan.amount == pytest.approx(0.8)


def test_until_takes_the_same_amount_each_round():
    assert schedules.until(0.5, 3, tolerance=0.01) == [0.5] * 3
    with pytest.raises(ConfigError, match="tolerance=null: schedule=until needs a fraction"):
        schedules.until(0.5, 3)


def test_the_amount_of_a_round():
    assert Round((0.5,)).amount == 0.5
    assert Round((0.5, 0.5)).amount == 0.75
    assert Round((None,)).amount is None
