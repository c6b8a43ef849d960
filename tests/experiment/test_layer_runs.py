"""strategy=layer in whole runs: rounds, resuming, plans, and how the losses are told."""

import json

import pytest
import torch
from conftest import composed, numbers, undisturbed_and_resumed
from safetensors.torch import load_file
from torch import nn

import prunelab
from prunelab.config.resolve import resolve
from prunelab.data.mnist import mnist
from prunelab.errors import ConfigError
from prunelab.experiment.bench import Bench
from prunelab.experiment.prune import prune
from prunelab.models.deep_mlp import DeepMLP
from prunelab.pruning import skipping

RUN = ("model=deep_mlp", "model.depth=4", "model.width=20", "strategy=layer", "schedule.rounds=2")


def run(folder, *more):
    return prunelab.run(composed(folder, *RUN, *more))


def test_a_run_removes_one_layer_a_round_and_really(tmp_path):
    result = run(tmp_path)
    assert [row.nonzero for row in result.rounds] == [784 * 20 + 20 + k * 420 + 210 for k in (4, 3, 2)]
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
    first, second = (row.losses for row in result.rounds[1:])
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
    stage = tmp_path / "outputs" / "stages" / result.rounds[0].stage
    model.load_state_dict(load_file(stage / "weights.safetensors"))
    x, y = mnist(limit=300).validation.batch(slice(None))
    return model.eval(), lambda: float(nn.functional.cross_entropy(model(x), y).detach())


def test_a_run_that_was_broken_off_ends_the_same(tmp_path):
    whole, again = undisturbed_and_resumed(run, tmp_path, 7)
    assert numbers(again.folder) == numbers(whole.folder)


@pytest.mark.parametrize(
    ("more", "layers"),
    [("strategy.count=2", (4, 2, 0)), ("amount=0.25", (4, 3, 2)), ("strategy.threshold=1000", (4, 0, 0))],
)
@pytest.mark.filterwarnings("ignore:every layer that may be removed is gone")
def test_how_many_go_is_a_key(more, layers, tmp_path):
    """round(0.25 · 4) = round(0.25 · 3) = 1."""
    found = [row.nonzero for row in run(tmp_path, more).rounds]
    assert found == [784 * 20 + 20 + k * 420 + 210 for k in layers]


def test_rewinding_leaves_removed_layers_out(tmp_path):
    result = run(tmp_path, "rewind=0")
    assert result.rounds[-1].nonzero == 784 * 20 + 20 + 2 * 420 + 210


def test_other_models_say_why_they_cannot(tmp_path):
    with pytest.raises(ConfigError, match="strategy=layer: no layer of LeNet keeps"):
        prunelab.run(composed(tmp_path, "strategy=layer"))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [7, 9])
def test_gradual_removal_goes_on_where_it_was_broken_off(batch, tmp_path):
    """With batch norm, which tells training from evaluation."""
    more = ("model=residual_lenet", "schedule.sparsity=0.6", "schedule.every=2", "schedule.prunings=2", "compact=false")
    choices = ("strategy=layer", "schedule=gradual", "finetune.epochs=1", *more)
    go = lambda folder: prunelab.run(composed(folder, *choices))  # noqa: E731
    whole, again = undisturbed_and_resumed(go, tmp_path, batch)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)


def test_gates_and_removal_go_together(tmp_path):
    more = ("regularizer=dynamic_gates", "regularizer.lr=0.01", "schedule.rounds=1")
    result = prunelab.run(composed(tmp_path, *RUN[:4], *more))
    assert len(result.rounds[1].layers_gone) == 1


def test_a_threshold_makes_no_promise(tmp_path):
    plan = json.loads((run(tmp_path, "strategy.threshold=0.01").folder / "summary.json").read_text())["plan"]
    assert [row["exact"] for row in plan] == [False, False]


def test_pruning_by_the_loss_leaves_the_model_training(tmp_path):
    """Between two steps of training, where evaluation would switch batch norm and dropout off."""
    bench = Bench(resolve(composed(tmp_path, *RUN)), torch.device("cpu"))
    bench.load_data()
    bench.model.train()
    prune(bench, 1, None)
    assert all(module.training for module in bench.model.modules())
