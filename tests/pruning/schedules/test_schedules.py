import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunelab import compose
from prunelab.errors import ConfigError
from prunelab.pruning import schedules


def amounts(*overrides):
    return [round.amount for round in schedules.rounds(compose(*overrides))]


def sparsities(plan):
    """The sparsity after each round, by taking away what each amount takes of what is still there."""
    left = itertools.accumulate(plan, lambda left, amount: left * (1 - amount), initial=1.0)
    return [1 - x for x in left][1:]


def test_iterative_takes_the_same_amount_of_what_is_left():
    plan = amounts("schedule=iterative", "amount=0.2", "schedule.rounds=5")
    assert plan == [0.2] * 5
    assert sparsities(plan) == pytest.approx([0.2, 0.36, 0.488, 0.5904, 0.67232])  # 1 - 0.8^t


def test_iterative_is_the_default():
    assert amounts() == [0.2] * 5


def test_one_shot():
    assert amounts("schedule=one_shot") == [0.5]
    assert amounts("schedule=one_shot", "amount=0.9") == [0.9]


def test_no_amount_is_left_to_the_strategy():
    assert amounts("schedule=one_shot", "amount=null") == [None]
    assert amounts("schedule=iterative", "amount=null", "schedule.rounds=2") == [None, None]


def test_ramp_is_spoken_in_round_numbers():
    assert amounts("schedule=ramp") == [0.2, 0.3, 0.4, 0.5, 0.6]
    assert amounts("schedule=ramp", "amount=0.1", "schedule.rounds=3") == [0.1, 0.2, 0.3]
    assert amounts("schedule=ramp", "amount=0.5", "schedule.step=-0.25", "schedule.rounds=3") == [0.5, 0.25, 0]
    assert amounts("schedule=ramp", "schedule.step=0", "schedule.rounds=2") == [0.2, 0.2]


def test_linear_by_hand():
    plan = amounts("schedule=linear", "schedule.sparsity=0.8", "schedule.rounds=4")
    assert plan == pytest.approx([0.2, 1 / 4, 1 / 3, 1 / 2])  # to 0.2, 0.4, 0.6, 0.8


def test_cubic_by_hand():
    plan = amounts("schedule=cubic", "schedule.sparsity=0.8", "schedule.rounds=2")
    assert plan == pytest.approx([0.7, 1 / 3])  # to 0.8 · 7/8 = 0.7, then to 0.8


def test_cubic_to_90_percent_in_5_rounds():
    plan = amounts("schedule=cubic", "schedule.sparsity=0.9")
    assert sparsities(plan) == pytest.approx([0.4392, 0.7056, 0.8424, 0.8928, 0.9])


def test_geometric_by_hand():
    plan = amounts("schedule=geometric", "schedule.sparsity=0.75", "schedule.rounds=2")
    assert plan == pytest.approx([0.5, 0.5])
    plan = amounts("schedule=geometric", "schedule.sparsity=0.67232")
    assert plan == pytest.approx([0.2] * 5)  # 0.8^5 = 0.32768


FORMULAS = {
    "linear": lambda s, x: s * x,
    "cubic": lambda s, x: s - s * (1 - x) * (1 - x) * (1 - x),
    "geometric": lambda s, x: -math.expm1(x * math.log1p(-s)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_config_and_the_formula_agree(name):
    plan = amounts(f"schedule={name}", "schedule.sparsity=0.95", "schedule.rounds=7")
    assert sparsities(plan) == pytest.approx([FORMULAS[name](0.95, t / 7) for t in range(1, 8)])


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


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["schedule=one_shot", "schedule.rounds=3"], r"schedule.rounds=3: schedule=one_shot has 1 round"),
        (["schedule=ramp", "schedule.step=0.2"], r"schedule.step=0.2: round 5 would remove 1;"),
        (["schedule=ramp", "schedule.step=-0.3"], r"schedule.step=-0.3: round 2 would remove -0.1;"),
        (["schedule=iterative", "schedule.sparsity=0.9"], r"schedule.sparsity=0.9: schedule=iterative goes by amount="),
        (["schedule=cubic"], r"schedule.sparsity=null: schedule=cubic needs a fraction in \(0, 1\)"),
        (["schedule=linear", "schedule.sparsity=0.9", "amount=0.2"], r"amount=0.2: schedule=linear goes by"),
        (["schedule=cubic", "schedule.sparsity=1"], r"schedule.sparsity=1.*: must be a fraction in \(0, 1\)"),
        (["schedule=cubic", "schedule.sparsity=0"], r"schedule.sparsity=0.*: must be a fraction in \(0, 1\)"),
        (["amount=1"], r"amount=1.*: must be a fraction in \[0, 1\)"),
        (["amount=-0.1"], r"amount=-0.1: must be"),
        (["schedule.rounds=0"], r"schedule.rounds=0: must be a whole number"),
        (["schedule.rounds=2.5"], r"schedule.rounds=2.5: must be a whole number"),
        (["schedule=cubic", "schedule.sparsity=0.9", "+schedule.power=2"], r"schedule.power=2: there is no such key"),
        (["schedule=ramp", "amount=null"], r"amount=null"),
        (
            ["schedule=iterative", "schedule.compression=8"],
            r"schedule.compression=8: schedule=iterative goes by amount",
        ),
        (["schedule=linear", "schedule.compression=8", "schedule.sparsity=0.5"], "use one of the two"),
        (["schedule=linear", "schedule.compression=1"], r"schedule.compression=1.*: must be a number > 1"),
        (["tolerance=0.1"], r"tolerance=0.1: only schedule=until takes one"),
        (["schedule=until", "tolerance=null"], r"tolerance=null: schedule=until needs"),
        (["schedule=until", "tolerance=1.5"], r"tolerance=1.5: must be"),
        (["schedule=gradual"], r"schedule.sparsity=null: schedule=gradual needs"),
        (["schedule=gradual", "schedule.sparsity=0.5", "rewind=0"], r"rewind=0: schedule=gradual"),
        (
            ["schedule=gradual", "schedule.sparsity=0.5", "schedule.every=0"],
            r"schedule.every=0: must be a whole number",
        ),
    ],
)
def test_errors_quote_key_and_value(overrides, said):
    with pytest.raises(ConfigError, match=said):
        amounts(*overrides)


def test_functions_check_what_only_they_know():
    with pytest.raises(ConfigError, match="one_shot has 1 round"):
        schedules.one_shot(0.5, 2)
    with pytest.raises(ConfigError, match="round 3 would remove"):
        schedules.ramp(0.5, 3, 0.25)
    assert schedules.one_shot(0.5) == [0.5]
    assert schedules.ramp(0.5, 2, 0.25) == [0.5, 0.75]


def test_gradual_is_cubic_in_steps_of_one_round():
    (plan,) = schedules.rounds(
        compose("schedule=gradual", "schedule.sparsity=0.8", "schedule.prunings=2", "schedule.every=7")
    )
    assert plan.amounts == pytest.approx((0.7, 1 / 3))  # to 0.8 · 7/8 = 0.7, then to 0.8
    assert plan.every == 7
    assert plan.amount == pytest.approx(0.8)


def test_until_takes_the_same_amount_each_round():
    plan = schedules.rounds(compose("schedule=until", "schedule.rounds=3", "amount=0.5"))
    assert plan == [schedules.Round((0.5,))] * 3


def test_what_a_compression_comes_to_is_the_schedule_s_sparsity():
    config = compose("schedule=linear", "schedule.compression=8", "schedule.rounds=2")
    assert sparsities([round.amount for round in schedules.rounds(config, 0.6)]) == pytest.approx([0.3, 0.6])
