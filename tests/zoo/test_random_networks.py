"""Random networks under random options: what is reported is what the files hold, or the run is refused in one line."""

from __future__ import annotations

import random
import sys

import pytest
import random_networks
import zoo_runs

HERE = "random_networks"
DATA = random_networks.data()
NETWORKS, PART = 500, 50
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


def check(number: int) -> zoo_runs.Row:
    """Run the network `number` under options drawn by the same number."""
    given = [f"model._target_={HERE}.network", f"+model.number={number}", f"data._target_={HERE}.data"]
    given += [f"trusted=[{HERE}]", "train.epochs=1"]
    drawn = options(random.Random(f"options {number}"))
    return zoo_runs.row(str(number), drawn, given, lambda: random_networks.network(number), DATA.test)


def test_some_networks() -> None:
    """Most of a fixed sample run to their end."""
    assert sum(check(number).found is not None for number in range(5)) > 2


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("first", range(0, NETWORKS, PART))
def test_500_networks(first: int) -> None:
    for number in range(first, first + PART):
        check(number)


if __name__ == "__main__":
    for number in map(int, sys.argv[1:]) if len(sys.argv) > 1 else range(NETWORKS):
        print(zoo_runs.line(check(number)), flush=True)
