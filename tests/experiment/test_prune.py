"""How much a run removes, by strategy, schedule and selection, and by a method of the user's; all of it stays zero."""

from __future__ import annotations

import sys

import pytest
from conftest import run, table
from safetensors.torch import load_file

import prunelab
from prunelab.experiment import phase

PRUNABLE = {"conv1.weight": 54, "conv2.weight": 864, "fc1.weight": 48_000, "fc2.weight": 10_080, "fc3.weight": 840}
TOTAL = sum(PRUNABLE.values())
UNTRAINED = ("train.epochs=0", "finetune.epochs=0")


def layer_counts(result) -> list[dict[str, int]]:
    """Nonzeros by tensor, of each round."""
    rows = table(result.folder / "layers.csv")
    return [
        {row["tensor"]: int(row["nonzero"]) for row in rows if row["round"] == str(number)}
        for number in range(len(result.rounds))
    ]


@pytest.mark.parametrize(("strategy", "amount"), [("l1", 0.37), ("random", 0.2), ("custom", 0.37)])
def test_local_strategies_are_exact_to_one_weight(tmp_path, strategy, amount):
    more = (f"strategy={strategy}", "schedule=iterative", f"amount={amount}", "schedule.rounds=3", *UNTRAINED)
    expected = dict(PRUNABLE)
    for number, found in enumerate(layer_counts(run(tmp_path, *more))):
        if number:
            expected = {name: left - round(amount * left) for name, left in expected.items()}
        assert found == expected


@pytest.mark.parametrize(("strategy", "amount"), [("global", 0.37), ("lottery_ticket", 0.2)])
def test_global_strategies_are_exact_to_one_weight(tmp_path, strategy, amount):
    result = run(tmp_path, f"strategy={strategy}", f"amount={amount}", "schedule.rounds=3", *UNTRAINED)
    left = TOTAL
    for row, found in zip(result.rounds, layer_counts(result), strict=True):
        if row.round:
            left -= round(amount * left)
        assert sum(found.values()) == left
        assert row.sparsity == pytest.approx(1 - left / TOTAL, abs=1e-12)
        assert row.nonzero == left + 236


def test_custom_by_default_takes_every_second_weight(tmp_path):
    result = run(tmp_path, "strategy=custom")
    assert layer_counts(result)[1] == {name: size // 2 for name, size in PRUNABLE.items()}
    for name in PRUNABLE:
        flat = result.model.state_dict()[name].flatten()
        assert (flat[::2] == 0).all()
        assert (flat[1::2] != 0).all()


@pytest.mark.parametrize("schedule", ["linear", "cubic", "geometric"])
def test_schedules_end_at_their_sparsity(tmp_path, schedule):
    result = run(tmp_path, f"schedule={schedule}", "schedule.sparsity=0.9", "schedule.rounds=2", *UNTRAINED)
    assert abs(sum(layer_counts(result)[-1].values()) - 0.1 * TOTAL) <= 2  # a rounding each round


def test_ln_structured_prunes_whole_channels_with_their_biases(tmp_path):
    result = run(tmp_path, "strategy=ln_structured", "amount=0.5", "schedule.rounds=2")
    for name, channels in {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}.items():
        layer = result.model.get_submodule(name)
        dead = (layer.weight.flatten(1) == 0).all(1)
        left = channels - round(0.5 * channels)
        left -= round(0.5 * left)
        assert int((~dead).sum()) == left
        assert (layer.weight[~dead] != 0).all()
        assert (layer.bias[dead] == 0).all()
        assert (layer.bias[~dead] != 0).all()
    assert (result.model.fc3.weight != 0).all()


@pytest.mark.parametrize(("strategy", "optimizer"), [("l1", "adam"), ("ln_structured", "sgd")])
def test_pruned_weights_are_exactly_zero_after_fine_tuning(tmp_path, strategy, optimizer):
    more = (f"strategy={strategy}", f"optimizer={optimizer}", "optimizer.weight_decay=0.01", "schedule.rounds=2")
    result = run(tmp_path, *more)
    weights = result.model.state_dict()
    for name, mask in load_file(result.folder / "masks.safetensors").items():
        assert (weights[name][~mask] == 0).all()
        assert (weights[name][mask] != 0).all()


def test_amount_zero_is_the_dense_baseline(tmp_path):
    result = run(tmp_path, "amount=0", "schedule.rounds=2", *UNTRAINED)
    for row in result.rounds:
        assert row.sparsity == 0
        assert row.nonzero == row.parameters == 60_074
        assert row.compression_ratio == 1
    assert layer_counts(result) == [PRUNABLE] * 3


def test_include_and_exclude(tmp_path):
    chosen = ("prune.include=[fc*.weight,fc3.bias]", "prune.exclude=[fc2.*]")
    result = run(tmp_path, *chosen, "schedule.rounds=1", *UNTRAINED)
    assert [set(found) for found in layer_counts(result)] == [{"fc1.weight", "fc3.weight", "fc3.bias"}] * 2
    assert (result.model.fc2.weight != 0).all()


def test_a_small_mask_is_printed_with_the_milliseconds(tmp_path, capsys):
    run(tmp_path, "strategy=custom", "prune.include=[fc3.bias]")
    out = capsys.readouterr().out
    assert " ms" in out
    assert "fc3.bias mask = [" in out


def test_a_layer_keeps_its_last_weight_and_a_warning_says_so(tmp_path, caplog):
    result = run(tmp_path, "strategy=l1", "amount=0.99", "schedule.rounds=2")
    assert layer_counts(result)[2]["conv1.weight"] == 1
    assert any("conv1.weight" in record.getMessage() and "last" in record.getMessage() for record in caplog.records)


# Of yours

MINE = """
import torch
from torch.nn.utils import prune

def score(weight):
    return torch.arange(weight.numel(), dtype=torch.float32).view(weight.shape)

class Front(prune.BasePruningMethod):
    PRUNING_TYPE = "global"

    def compute_mask(self, t, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[:4] = 0
        return mask

def broken(weight):
    raise RuntimeError("this is broken")

class Broken(Front):
    def compute_mask(self, t, default_mask):
        raise RuntimeError("this is broken")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_of_test.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine_of_test"
    sys.modules.pop("mine_of_test", None)


def test_a_scoring_function_of_yours(tmp_path, mine):
    more = ("strategy=custom", f"strategy.method={mine}.score", f"trusted=[{mine}]", "amount=0.25")
    result = run(tmp_path, *more)
    for name, size in PRUNABLE.items():
        flat = result.model.state_dict()[name].flatten()
        assert (flat[: round(size / 4)] == 0).all()
        assert (flat[round(size / 4) :] != 0).all()


def test_a_pruning_method_of_yours(tmp_path, mine):
    more = ("strategy=custom", f"strategy.method={mine}.Front", f"trusted=[{mine}]", "amount=null")
    result = run(tmp_path, *more)
    for name in PRUNABLE:
        flat = result.model.state_dict()[name].flatten()
        assert (flat == 0).nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert result.rounds[1].amount is None


@pytest.mark.parametrize(("name", "amount"), [("broken", "0.5"), ("Broken", "null")])
def test_a_method_of_yours_that_fails_is_found_before_training(tmp_path, mine, monkeypatch, name, amount):
    monkeypatch.setattr(phase, "fit", lambda *args, **how: pytest.fail("trained"))
    more = ("strategy=custom", f"strategy.method={mine}.{name}", f"trusted=[{mine}]", f"amount={amount}")
    with pytest.raises(prunelab.ConfigError, match=rf"strategy.method={mine}.{name}: cannot .*this is broken"):
        run(tmp_path, *more)
