"""Random networks under random options: what is reported is what the files hold, or the run is refused in one line."""

from __future__ import annotations

import random

import pytest
import random_networks
import zoo_runs
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

HERE = "random_networks"
DATA = random_networks.data()
STRATEGIES = (
    "threshold",
    "uniform",
    "global",
    "l1",
    "ln_structured",
    "channel",
    "lottery_ticket",
    "random",
    "erk",
    "lamp",
    "block",
    "nm",
)
AXES = {  # None: the key is not given
    "granularity": (None, None, None, "channel", "kernel", "weight"),
    "criterion": (None, None, None, "taylor", "snip", "movement", "obd", "synflow", "grasp", "wanda"),
    "sparse_training": (None, None, None, None, None, "rigl", "set"),
    "regularizer": (None, None, None, None, "l1", "group_lasso"),
    "control": (None, None, None, None, "random_masks", "reinit"),
    "export": (None, None, None, None, None, "[safetensors]"),
    "compact": (None, None, "true"),
    "rewind": (None, None, None, "0", "3it"),
}


def options(choose: random.Random) -> list[str]:
    """Return random overrides."""
    strategy = choose.choice(STRATEGIES)
    own = strategy in ("nm", "threshold")
    drawn = {key: value for key, values in AXES.items() if (value := choose.choice(values)) is not None}
    if own:
        drawn = {key: drawn[key] for key in drawn.keys() - {"granularity", "sparse_training"}}
    if "sparse_training" in drawn:
        drawn["sparse_training.every"] = "1"
    if "control" in drawn:
        drawn["rewind"] = "0"
    if not own:
        drawn |= {"amount": choose.choice(("0.1", "0.3", "0.5", "0.8")), "schedule.rounds": choose.choice("112")}
    return [f"strategy={strategy}", *(f"{key}={drawn[key]}" for key in sorted(drawn))]


def check(number: int, seed: int) -> bool:
    """Run the network `number` under random options; return False if it was refused."""
    given = [f"model._target_={HERE}.network", f"+model.number={number}", f"data._target_={HERE}.data"]
    given += [f"trusted=[{HERE}]", "train.epochs=1"]
    row = zoo_runs.row(
        str(number), options(random.Random(seed)), given, lambda: random_networks.network(number), DATA.test
    )
    return row.found is not None


def test_some_networks() -> None:
    """Most of a fixed sample run to their end."""
    assert sum(check(number, number) for number in range(8)) > 4


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 2**31), seed=st.integers(0, 2**31))
@example(number=0, seed=0)
def test_500_networks(number: int, seed: int) -> None:
    check(number, seed)
