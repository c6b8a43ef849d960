"""Random networks under random options: what is reported is what the files hold, or the run is refused in one line."""

from __future__ import annotations

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import random_networks
import recount
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import prunelab

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
    "control": (None, None, None, None, "random", "reinit"),
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
    overrides = options(random.Random(seed))
    with TemporaryDirectory() as where:
        run_folder = Path(where) / "run"
        given = [
            f"model._target_={HERE}.network",
            f"+model.number={number}",
            f"data._target_={HERE}.data",
            f"trusted=[{HERE}]",
            "train.epochs=1",
            "finetune.epochs=1",
            "train.batch_size=32",
            "latency=false",
            f"outputs={where}",
            *overrides,
        ]
        print(" ".join(given))  # pytest shows it where the check fails
        refusal = refused(given, run_folder)
        if refusal is not None:
            assert "\n" not in refusal
            assert len(refusal) < 500
            assert not trained(Path(where)), f"refused after training: {refusal}"
            return False
        test = DATA.test
        found = recount.recounted(run_folder, lambda: random_networks.network(number), test.inputs, test.labels)
        assert found == pytest.approx(recount.reported(run_folder)), overrides
        loaded = prunelab.load(run_folder, trusted=[HERE])
        assert recount.accuracy(loaded, test.inputs, test.labels) == pytest.approx(found.test_accuracy)
        if "compact=true" in overrides or "strategy=channel" in overrides:
            small = prunelab.load(run_folder, trusted=[HERE], compact=True)
            with torch.no_grad():
                torch.testing.assert_close(small(test.inputs), loaded(test.inputs), rtol=1e-3, atol=1e-4)
        return True


def refused(overrides: list[str], folder: Path) -> str | None:
    """Run an experiment; return the message if it is refused."""
    try:
        prunelab.run(prunelab.compose(*overrides), folder)
    except prunelab.ConfigError as error:
        return str(error)
    return None


def trained(outputs: Path) -> bool:
    """Return whether any stage but the initial weights is stored."""
    kinds = [json.loads(path.read_bytes())["kind"] for path in outputs.glob("stages/*/stage.json")]
    return any(kind != "init" for kind in kinds)


def test_some_networks() -> None:
    """Most of a fixed sample run to their end."""
    assert sum(check(number, number) for number in range(16)) > 8


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 2**31), seed=st.integers(0, 2**31))
@example(number=0, seed=0)
def test_500_networks(number: int, seed: int) -> None:
    check(number, seed)
