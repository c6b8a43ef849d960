"""The rounds that a config asks for: its goal, and what of it is refused."""

import pytest

from prunelab import compose
from prunelab.config.resolve import resolve
from prunelab.config.rounds import rounds
from prunelab.errors import ConfigError
from prunelab.pruning.schedules import Round


def plan(*overrides, sparsity=None):
    return rounds(resolve(compose(*overrides)), sparsity)


def amounts(*overrides, sparsity=None):
    return [round.amount for round in plan(*overrides, sparsity=sparsity)]


def test_iterative_is_the_default():
    assert amounts() == [0.2] * 5


def test_one_shot():
    assert amounts("schedule=one_shot") == [0.5]
    assert amounts("schedule=one_shot", "amount=0.9") == [0.9]


def test_no_amount_is_left_to_the_allocation():
    assert amounts("strategy=nm") == [None]
    assert amounts("allocation=threshold", "schedule.rounds=2") == [None, None]


def test_ramp_is_spoken_in_round_numbers():
    assert amounts("schedule=ramp", "amount=0.5", "schedule.step=-0.25", "schedule.rounds=3") == [0.5, 0.25, 0]


def test_linear_by_hand():
    got = amounts("schedule=linear", "schedule.sparsity=0.8", "schedule.rounds=4")
    assert got == pytest.approx([0.2, 1 / 4, 1 / 3, 1 / 2])  # to 0.2, 0.4, 0.6, 0.8


def test_until_takes_the_same_amount_each_round():
    assert plan("schedule=until", "schedule.rounds=3", "amount=0.5") == [Round((0.5,))] * 3


def test_gradual_is_cubic_in_steps_of_one_round():
    (one,) = plan("schedule=gradual", "schedule.sparsity=0.8", "schedule.prunings=2", "schedule.every=7")
    assert one.amounts == pytest.approx((0.7, 1 / 3))  # to 0.8 · 7/8 = 0.7, then to 0.8
    assert one.every == 7


def test_a_compression_becomes_the_sparsity_that_the_model_needs():
    got = amounts("schedule=linear", "schedule.compression=8", "schedule.rounds=2", sparsity=0.6)
    assert got == pytest.approx([0.3, 3 / 7])  # to 0.3, then to 0.6


def test_a_target_of_multiply_adds_is_a_path_of_multiply_adds():
    got = plan("strategy=channel", "schedule=linear", "schedule.macs=0.6", "schedule.rounds=2")
    assert [round.macs for round in got] == pytest.approx([0.8, 0.6])
    assert [round.amounts for round in got] == [(None,), (None,)]


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
            ["schedule=gradual", "schedule.macs=0.5", "compact=true"],
            r"schedule.macs: schedule=gradual prunes while it trains",
        ),
        (
            ["schedule=gradual", "schedule.sparsity=0.5", "schedule.every=0"],
            r"schedule.every=0: must be a whole number",
        ),
    ],
)
def test_errors_quote_key_and_value(overrides, said):
    with pytest.raises(ConfigError, match=said):
        compose(*overrides)
