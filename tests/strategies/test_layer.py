"""strategy=layer: the least important layers go whole, by number, fraction and threshold; the masks alone know them."""

import functools
import json

import pytest
import torch
from conftest import numbers, overrides, undisturbed_and_resumed
from prunelab.experiment.lab import Lab
from prunelab.pruning.strategies import base as strategies
from prunelab.pruning.strategies.layer import layer
from safetensors.torch import load_file
from torch import nn

import prunelab
from prunelab.config import build as building
from prunelab.config.schema import ConfigError
from prunelab.costs import counts as metrics
from prunelab.experiment import pruning
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.lenet import LeNet
from prunelab.pruning import masks, skipping
from prunelab.tracking.console import without_layers
from prunelab.training import loop as training


class Adds(nn.Module):
    """x + its number: what each layer is worth can be counted on one's fingers."""

    def __init__(self, value):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.value = value

    def forward(self, x):
        return x + self.value


def adding(*values):
    model = nn.Sequential(*(Adds(value) for value in values))
    layer.prepare(model, (1,))
    return model


def remove(model, target, amount=None, parameters=None, **how):
    """As a round does it; a layer is worth what the network is off `target` for 0 without it."""
    if parameters is None:
        parameters = [(part.linear, "weight") for part in model]
    masks.attach([pair for pair in parameters if not hasattr(pair[0], "weight_mask")])
    bound = functools.partial(layer, **how)
    strategies.prune(model, parameters, bound, amount, loss=lambda: abs(float(model(torch.zeros(1, 1))) - target))
    return skipping.skipped(model)


@pytest.mark.parametrize(
    ("how", "gone"),
    [
        ({}, ["2"]),
        ({"amount": 0.0}, []),
        ({"count": 1}, ["2"]),
        ({"count": 2}, ["1", "2"]),  # 2 − 0.5 costs 0.5; then 3 is as far off as 2, −1 far more
        ({"count": 9}, ["0", "1", "2"]),
        ({"amount": 0.5}, ["1", "2"]),  # round(1.5) = 2
        ({"threshold": 0.4}, []),
        ({"threshold": 0.5}, ["1", "2"]),
        ({"threshold": 2.4}, ["1", "2"]),
        ({"threshold": 2.5}, ["0", "1", "2"]),
    ],
)
def test_the_least_important_go_first(how, gone):
    assert remove(adding(3.0, -1.0, 0.5), 2.5, **how) == gone


def test_importance_is_looked_up_anew():
    """1 and −1 cancel out: without one of them the other is worth something else."""
    assert remove(adding(1.0, -1.0, 1.2), 1.2, count=2) == ["0", "1"]


def test_a_threshold_counts_from_the_loss_that_there_is():
    """The network is 1 off already; without 0.5 it is 0.5 off, without −1 too then 1.5."""
    assert remove(adding(3.0, -1.0, 0.5), 1.5, threshold=0.0) == ["2"]


def test_rounds_go_on_from_each_other():
    model = adding(3.0, -1.0, 0.5)
    assert remove(model, 2.5) == ["2"]
    assert remove(model, 2.5) == ["1", "2"]
    assert remove(model, 2.5, amount=0.5) == ["1", "2"]  # round(0.5 · 1) = 0
    assert remove(model, 2.5, count=1) == ["0", "1", "2"]
    with pytest.warns(UserWarning, match="every layer that may go is gone"):
        remove(model, 2.5)


def test_a_removed_layer_has_no_weights_and_hands_on_what_it_is_given():
    model = adding(3.0, -1.0, 0.5)
    remove(model, 2.5)
    assert float(model(torch.zeros(1, 1))) == 2.0
    kept = {item.name: bool(item.mask.all()) for item in masks.masked(model)}
    assert kept == {f"{i}.linear.{p}": i != 2 for i in range(3) for p in ("weight", "bias")}


def test_the_masks_alone_bring_a_network_without_layers_back():
    model = adding(3.0, -1.0, 0.5)
    dense = masks.snapshot(model)
    remove(model, 2.5)
    pruned = masks.snapshot(model)
    masks.restore(model, *dense)
    assert skipping.skipped(model) == []
    assert float(model(torch.zeros(1, 1))) == 2.5
    other = adding(3.0, -1.0, 0.5)
    masks.restore(other, *pruned)
    assert skipping.skipped(other) == ["2"]


def test_a_layer_of_which_a_part_is_left_alone_stays_whole():
    model = adding(3.0, -1.0, 0.5)
    chosen = [(model[i].linear, "weight") for i in (0, 1)]
    assert remove(model, 2.5, parameters=chosen, count=1) == ["1"]
    with pytest.raises(ConfigError, match=r"prune\.include and prune\.exclude leave none whole of 0, 1, 2"):
        remove(adding(3.0, -1.0, 0.5), 2.5, parameters=[(nn.Linear(1, 1), "weight")])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"amount": 0.5, "count": 1}, "amount=0.5, strategy.count=1: give one of them"),
        ({"threshold": 0.1, "count": 1}, "strategy.count=1, strategy.threshold=0.1"),
        ({"count": 0}, "strategy.count=0: must be a whole number ≥ 1"),
        ({"count": 1.5}, "strategy.count=1.5"),
        ({"count": True}, "strategy.count=True"),
        ({"threshold": -0.1}, "strategy.threshold=-0.1: must be a number ≥ 0"),
        ({"threshold": float("nan")}, "strategy.threshold=nan"),
    ],
)
def test_a_wrong_value_is_refused(how, said):
    with pytest.raises(ConfigError, match=said):
        remove(adding(3.0, -1.0, 0.5), 2.5, **how)


def test_a_network_without_such_layers_is_refused():
    with pytest.raises(ConfigError, match="no layer of LeNet keeps its input's shape"):
        layer.prepare(LeNet(), (1, 28, 28))
    with pytest.raises(ConfigError, match="finding layers needs the data's shape"):
        layer.prepare(LeNet(), None)


def test_multiply_adds_of_removed_layers_are_zeros_of_the_dense_network():
    model = DeepMLP(20, 2)
    layer.prepare(model, (1, 28, 28))
    parameters = masks.select(model)
    masks.attach(parameters)
    strategies.prune(model, parameters, layer, None, loss=lambda: 0.0)
    example = torch.zeros(1, 1, 28, 28)
    row = metrics.cost(model, metrics.layers(model, example))
    assert skipping.skipped(model) == ["blocks.0"]
    assert (row["macs"], row["macs_nonzero"]) == (784 * 20 + 2 * 400 + 200, 784 * 20 + 400 + 200)


# A whole run

RUN = ("model=deep_mlp", "model.depth=4", "model.width=20", "strategy=layer", "schedule.rounds=2")


def run(folder, *more):
    return prunelab.run(prunelab.compose(*overrides(folder), *RUN, *more))


def test_a_run_removes_one_layer_a_round_and_really(tmp_path):
    result = run(tmp_path)
    assert [row["nonzero"] for row in result.rounds] == [784 * 20 + 20 + k * 420 + 210 for k in (4, 3, 2)]
    gone = [name for name, module in result.model.named_modules() if isinstance(module, nn.Identity)]
    kept = load_file(result.folder / "masks.safetensors")
    assert gone == sorted({name[: len("blocks.0")] for name, mask in kept.items() if not mask.any()})
    assert len(gone) == 2
    x = torch.randn(8, 1, 28, 28)
    loaded = prunelab.load(result.folder)
    assert skipping.skipped(loaded) == gone
    with torch.no_grad():
        assert float((loaded(x) - result.model(x)).abs().max()) <= 1e-5


def test_a_run_tells_what_each_layer_is_worth(tmp_path):
    """By hand: each block of the network as it was before the round replaced by the identity."""
    result = run(tmp_path)
    first, second = (row["losses"] for row in result.rounds[1:])
    blocks = [f"blocks.{i}" for i in range(4)]
    assert list(first) == ["", *blocks]
    gone = min(blocks, key=first.__getitem__)
    assert list(second) == ["", *(name for name in blocks if name != gone)]
    model, loss = dense(tmp_path, result)
    assert first[""] == pytest.approx(loss(), rel=1e-5)
    model.set_submodule("blocks.1", nn.Identity())
    assert first["blocks.1"] == pytest.approx(loss(), rel=1e-5)


def dense(tmp_path, result):
    """The dense network, as its stage stores it, and a function for its validation loss."""
    model = DeepMLP(20, 4)
    stage = tmp_path / "outputs" / "stages" / result.rounds[0]["stage"]
    model.load_state_dict(load_file(stage / "weights.safetensors"))
    x, y = building.bind(prunelab.compose(*overrides(tmp_path)), "data")().validation.batch(slice(None))
    return model.eval(), lambda: float(nn.functional.cross_entropy(model(x), y).detach())


def test_a_run_that_was_broken_off_ends_the_same(tmp_path):
    whole, again = undisturbed_and_resumed(run, tmp_path, 7)
    assert numbers(again.folder) == numbers(whole.folder)


@pytest.mark.parametrize(
    ("more", "layers"),
    [("strategy.count=2", (4, 2, 0)), ("amount=0.25", (4, 3, 2)), ("strategy.threshold=1000", (4, 0, 0))],
)
@pytest.mark.filterwarnings("ignore:every layer that may go is gone")
def test_how_many_go_is_a_key(more, layers, tmp_path):
    """round(0.25 · 4) = round(0.25 · 3) = 1."""
    found = [row["nonzero"] for row in run(tmp_path, more).rounds]
    assert found == [784 * 20 + 20 + k * 420 + 210 for k in layers]


def test_rewinding_leaves_removed_layers_out(tmp_path):
    result = run(tmp_path, "rewind=0")
    assert result.rounds[-1]["nonzero"] == 784 * 20 + 20 + 2 * 420 + 210


def test_other_models_say_why_they_cannot(tmp_path):
    with pytest.raises(ConfigError, match="strategy=layer: no layer of LeNet keeps"):
        prunelab.run(prunelab.compose(*overrides(tmp_path), "strategy=layer"))


def test_pruning_by_the_loss_leaves_the_model_training(tmp_path):
    """Between two steps of training, where evaluation would switch batch norm and dropout off."""
    config = prunelab.compose(*overrides(tmp_path), *RUN)
    lab = Lab(config, torch.device("cpu"))
    lab.load_data()
    lab.model.train()
    pruning.prune(lab, 1, None)
    assert all(module.training for module in lab.model.modules())


@pytest.mark.parametrize("batch", [7, 9])
def test_gradual_removal_goes_on_where_it_was_broken_off(batch, tmp_path):
    """With batch norm, which tells training from evaluation."""
    more = ("model=residual_lenet", "schedule.sparsity=0.6", "schedule.every=2", "schedule.prunings=2", "compact=false")
    choices = ("strategy=layer", "schedule=gradual", "finetune.epochs=1", *more)
    go = lambda folder: prunelab.run(prunelab.compose(*overrides(folder), *choices))  # noqa: E731
    whole, again = undisturbed_and_resumed(go, tmp_path, batch)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)


def test_gates_and_removal_go_together(tmp_path):
    more = ("regularizer=dynamic_gates", "regularizer.lr=0.01", "schedule.rounds=1")
    result = prunelab.run(prunelab.compose(*overrides(tmp_path), *RUN[:4], *more))
    assert len(result.rounds[1]["layers_gone"]) == 1


def test_a_threshold_makes_no_promise(tmp_path):
    plan = json.loads((run(tmp_path, "strategy.threshold=0.01").folder / "summary.json").read_text())["plan"]
    assert [row["exact"] for row in plan] == [False, False]


def test_each_network_is_evaluated_once_while_an_amount_is_searched(tmp_path, monkeypatch):
    seen = []
    real = training.evaluate
    monkeypatch.setattr(training, "evaluate", lambda *args: seen.append(1) or real(*args))
    lab = Lab(prunelab.compose(*overrides(tmp_path), *RUN), torch.device("cpu"))
    lab.load_data()
    pruning.prune(lab, 1, None, macs=0.99)
    assert len(seen) <= 1 + 4 + 3 + 2 + 1  # nothing left out; then each of the layers that are left


def test_what_is_left_of_a_round_is_told():
    losses = {"": 0.3, "a": 0.4, "b": 0.31, "c": 0.5, "a b": 0.45, "b c": 0.6}
    said = without_layers({"round": 2, "losses": losses, "layers_gone": ["a", "b"]})
    assert " ".join(said.split()) == (
        "round 2: validation loss 0.3000; without b 0.3100, a 0.4000, c 0.5000; removed a, b: 0.4500"
    )
    assert without_layers({"round": 3, "losses": {"": 0.3}, "layers_gone": []}).endswith("0.3000; no layer is removed")
