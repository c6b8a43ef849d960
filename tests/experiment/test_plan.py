"""The plan: exact where counts decide, near the truth elsewhere, for every strategy in conf/."""

import json
from pathlib import Path

import pytest
from conftest import ABOVE, overrides
from safetensors.torch import load_file

import prunelab

STRATEGIES = sorted(path.stem for path in (Path(ABOVE) / "conf" / "strategy").glob("*.yaml"))
MORE = {"layer": ("model=residual_lenet", "strategy.count=1"), "channel": ("compact=false",)}
MORE["layer"] += ("compact=false", "train.epochs=1")  # before it, biases are zero that nobody has pruned
NEAR = 0.1  # of all weights: how far an estimate may be off on untrained networks


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_plan_comes_true(strategy, tmp_path):
    few = [item for item in overrides(tmp_path) if not item.startswith(("data", "train", "finetune"))]
    more = ("data=synthetic", "data.examples=60", "train.epochs=0", "finetune.epochs=0", *MORE.get(strategy, ()))
    result = prunelab.run(prunelab.compose(*few, *more, f"strategy={strategy}"))
    plan = json.loads((result.folder / "summary.json").read_text())["plan"]
    masks = load_file(result.folder / "masks.safetensors")
    size = sum(mask.numel() for mask in masks.values())
    kept = sum(int(mask.sum()) for mask in masks.values())
    assert len(plan) == len(result.rounds) - 1
    for planned, row in zip(plan, result.rounds[1:], strict=True):
        if planned["left"] is None:
            assert not planned["exact"]
        elif planned["exact"]:
            assert planned["sparsity"] == pytest.approx(row.sparsity, abs=1e-12)
            assert planned["left"] == round((1 - row.sparsity) * size)
        else:
            assert planned["sparsity"] == pytest.approx(row.sparsity, abs=NEAR)
    if plan[-1]["exact"]:
        assert plan[-1]["left"] == kept
