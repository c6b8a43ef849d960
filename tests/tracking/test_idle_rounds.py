"""A round that removes nothing is said in the plan."""

import logging

import pytest

from prunelab.records import PlannedRound
from prunelab.tracking.console import Console, idle, plan_table


def plan(*sparsities, amount=0.2):
    return [
        PlannedRound(n, amount, s, None if s is None else int(100 - 100 * s), True) for n, s in enumerate(sparsities, 1)
    ]


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        (plan(0.0), [1]),
        (plan(0.0, 0.0), [1, 2]),
        (plan(0.2, 0.36), []),
        (plan(0.2, 0.2, 0.3), [2]),
        (plan(None, None), []),
        (plan(0.0, amount=None), []),
    ],
)
def test_idle_rounds(planned, expected, caplog, capsys):
    assert [one.round for one in idle(planned)] == expected
    assert plan_table(planned).count("removes nothing") == len(expected)
    console = Console()
    with caplog.at_level(logging.WARNING):
        console.plan("plan", planned, 1, 1)
    console.close()
    assert len(caplog.messages) == bool(expected)
    assert all(f"{number} (amount=0.2)" in caplog.text for number in expected)


AXES = (
    ["strategy=l1"],
    ["strategy=global"],
    ["strategy=channel"],
    ["granularity=kernel"],
    ["strategy=erk"],
    ["strategy=lamp"],
)


@pytest.mark.slow
@pytest.mark.parametrize("how", AXES, ids=" ".join)
def test_an_amount_that_rounds_to_nothing_is_warned_of(how, cli, tmp_path):
    done = cli("data.limit=300", "train.epochs=1", "schedule.rounds=1", "amount=1e-7", *how, cwd=tmp_path)
    assert (done.returncode, "removes nothing" in done.stdout) == (0, True)
    assert "amount=1e-07" in done.stderr
