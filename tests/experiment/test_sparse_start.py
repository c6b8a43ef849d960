"""Experiments and pruners that continue from a network that is sparse already. Zeros are counted in the saved files."""

import json

import pytest
import torch
from conftest import overrides
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune

import prunelab
from prunelab.models.lenet import LeNet
from prunelab.pruning.pruner import Pruner

FEW = ("data=synthetic", "data.examples=60", "train.epochs=0", "finetune.epochs=1", "schedule.rounds=1")


def run(folder, *more, model=None):
    few = [item for item in overrides(folder) if not item.startswith(("data", "train", "finetune"))]
    return prunelab.run(prunelab.compose(*few, *FEW, *more), model=model)


def sparse(share=0.9, kind=prune.L1Unstructured):
    """LeNet in the form of torch.nn.utils.prune; 59,838 weights can be pruned."""
    torch.manual_seed(3)
    model = LeNet()
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    prune.global_unstructured([(layer, "weight") for layer in layers], kind, amount=share)
    return model


def plain(model):
    for module in model.modules():
        if hasattr(module, "weight_mask"):
            prune.remove(module, "weight")
    return model


def zeros(result):
    weights = load_file(result.folder / "model.safetensors")
    return {name: int((value == 0).sum()) for name, value in weights.items() if value.dim() > 1}


def plan(result):
    summary = json.loads((result.folder / "summary.json").read_text())
    return summary["plan"][-1], summary.get("plan_notes", [])


def check(result, expected):
    assert sum(zeros(result).values()) == expected
    left = 59_838 - expected
    assert plan(result)[0]["left"] == left
    assert plan(result)[0]["exact"]
    assert result.rounds[-1].sparsity == pytest.approx(expected / 59_838)


NINE, MORE = 53_854, 53_854 + 1_197  # 90% of 59,838, and 20% of the rest


def test_a_checkpoint_a_live_model_and_a_run_continue_from_their_zeros(tmp_path):
    torch.save(sparse().state_dict(), tmp_path / "torch_prune.pt")
    save_file(plain(sparse()).state_dict(), tmp_path / "zeros.safetensors")
    first = run(tmp_path, f"model.checkpoint={tmp_path}/torch_prune.pt", "amount=0.2")
    check(first, MORE)
    assert first.rounds[0].sparsity == pytest.approx(NINE / 59_838)
    others = [
        run(tmp_path, f"model.checkpoint={tmp_path}/zeros.safetensors", "amount=0.2"),
        run(tmp_path, "amount=0.2", model=plain(sparse())),
    ]
    for other in others:
        check(other, MORE)
        assert zeros(other) == zeros(first)
    stage = tmp_path / "outputs" / "stages" / first.rounds[-1].stage
    for folder in (first.folder, stage):
        check(run(tmp_path, f"model.checkpoint={folder}", "amount=0.5"), MORE + 2_394)  # half of 4,787
    notes = plan(first)[1]
    share = 100 * float((plain(sparse()).fc1.weight == 0).float().mean())
    assert f"fc1.weight: {share:.1f}% zero already, kept as pruned" in notes


def test_adopt_zeros_false_begins_with_no_mask(tmp_path):
    result = run(tmp_path, "amount=0.2", "prune.adopt_zeros=false", model=plain(sparse()))
    kept = load_file(result.folder / "masks.safetensors").values()
    assert sum(int(mask.sum()) for mask in kept) == round(0.8 * 59_838)
    assert plan(result)[1] == []


@pytest.mark.parametrize(
    ("strategy", "exact"),
    [("l1", True), ("erk", True), ("lamp", True), ("ln_structured", False), ("nm", False), ("random", True)],
)
def test_every_strategy_prunes_what_remains(strategy, exact, tmp_path):
    more = () if strategy == "nm" else ("amount=0.2",)
    result = run(tmp_path, f"strategy={strategy}", *more, "finetune.epochs=0", model=plain(sparse()))
    before = zeros_of(plain(sparse()))
    assert all(zeros(result)[name] >= count for name, count in before.items())
    assert sum(zeros(result).values()) > NINE
    assert plan(result)[0]["exact"] == exact
    assert plan(result)[0]["sparsity"] == pytest.approx(result.rounds[-1].sparsity, abs=1e-12 if exact else 0.02)


def zeros_of(model):
    return {name: int((p == 0).sum()) for name, p in model.named_parameters() if p.dim() > 1}


def test_an_excluded_layer_stays_as_sparse_as_it_is(tmp_path):
    result = run(tmp_path, "amount=0.2", "prune.exclude=[fc1.*]", model=plain(sparse()))
    assert zeros(result)["fc1.weight"] == zeros_of(plain(sparse()))["fc1.weight"]
    assert plan(result)[0]["exact"]
    assert plan(result)[0]["sparsity"] == pytest.approx(result.rounds[-1].sparsity, abs=1e-12)


def test_a_final_sparsity_is_of_all_weights(tmp_path):
    goal = ("schedule=cubic", "amount=null", "schedule.sparsity=0.95", "schedule.rounds=2", "finetune.epochs=0")
    result = run(tmp_path, *goal, model=plain(sparse()))
    assert result.rounds[-1].sparsity == pytest.approx(0.95, abs=1e-4)
    assert 0.9 < result.rounds[1].sparsity < 0.95
    by_ratio = run(tmp_path, *(*goal[:2], "schedule.compression=15", *goal[3:]), model=plain(sparse()))
    assert by_ratio.rounds[-1].compression_ratio == pytest.approx(15, rel=1e-3)
    with pytest.raises(
        prunelab.ConfigError, match=r"^schedule.sparsity=0.85: 90.0% of the prunable weights are pruned"
    ):
        run(tmp_path, *goal, "schedule.sparsity=0.85", model=plain(sparse()))


def test_zeros_of_new_layers_are_not_pruned(tmp_path):
    torch.manual_seed(0)
    model = LeNet()
    nn.init.zeros_(model.fc3.weight)
    nn.init.zeros_(model.fc3.bias)
    result = run(tmp_path, "strategy=ln_structured", "amount=0.2", "prune.output_layer=true", model=model)
    assert result.rounds[0].nonzero == result.rounds[0].parameters - 850
    assert "fc3.weight: all zero, which is no pruning; not kept as pruned" in plan(result)[1]
    assert bool(load_file(result.folder / "model.safetensors")["fc3.weight"].any())


def test_removed_layers_stay_removed_and_need_the_strategy_that_removes_them(tmp_path):
    layers = ("model=residual_lenet", "strategy=layer", "strategy.count=1", "compact=false", "finetune.epochs=0")
    first = run(tmp_path, *layers)
    gone = first.rounds[-1].layers_gone
    second = run(tmp_path, *layers, f"model.checkpoint={first.folder}")
    assert second.rounds[0].test_loss == first.rounds[-1].test_loss
    assert second.rounds[0].nonzero == first.rounds[-1].nonzero
    assert not {*second.rounds[-1].layers_gone} & {*gone}
    with pytest.raises(prunelab.ConfigError, match="layers were removed from it; needs strategy=layer"):
        run(tmp_path, "model=residual_lenet", f"model.checkpoint={first.folder}")


def test_a_live_model_in_torch_s_form_is_refused_in_one_line(tmp_path):
    with pytest.raises(
        prunelab.ConfigError, match=r"^model: conv1.weight is in the form of torch.nn.utils.prune; call"
    ):
        run(tmp_path, model=sparse())


# The library


def test_a_second_pruner_prunes_what_remains():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 5))
    nn.init.zeros_(model[0].bias)
    first = Pruner(model)
    first.prune(0.8)
    first.detach()
    second = Pruner(model, "random", adopt_zeros=True)
    assert second.masks.counts() == (50, 250)
    assert second.prune(0.5).kept == 25
    assert [item.name for item in second.masks] == ["0.weight", "3.weight"]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.rand(4, 20)).sum().backward()
    optimizer.step()
    assert int((model[0].weight != 0).sum() + (model[3].weight != 0).sum()) == 25
    assert Pruner(model, adopt_zeros=False).masks.counts() == (250, 250)


def test_a_bias_stays_pruned_with_its_channel_only():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 5))
    pruner = Pruner(model, granularity="channel", example=torch.zeros(2, 20))
    pruner.prune(0.4)
    pruner.detach()
    with torch.no_grad():
        model[0].bias[model[0].weight.any(1).nonzero()[0]] = 0  # a bias that happens to be zero
    again = Pruner(model, granularity="channel", example=torch.zeros(2, 20))
    assert int(again.masks["0.bias"].kept.sum()) == 6
    assert again.summary().tensors[0].units == (6, 10)
    again.prune(0.5)
    assert int(model[0].weight.any(1).sum()) == 3


def test_an_identity_and_a_zero_layer():
    """What is adopted, and what is not, can be asked."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    nn.init.zeros_(model[0].weight)
    nn.init.eye_(model[1].weight)
    adopted = Pruner(model).adopted
    assert adopted.zeros == {"1.weight": (12, 16)}
    assert adopted.empty == ["0.weight"]
