"""Criteria in an experiment: what they see, iterations, movement gathered while training, what is refused."""

import itertools
import sys

import pytest
import torch
from conftest import broken_off, numbers, overrides
from prunelab.pruning.strategies import base as strategies
from prunelab.pruning.strategies.global_unstructured import global_unstructured
from safetensors.torch import load_file

import prunelab
from prunelab.config.schema import ConfigError
from prunelab.data.mnist import mnist
from prunelab.models.lenet import LeNet
from prunelab.pruning import masks
from prunelab.training import loop as training

UNTRAINED = ("train.epochs=0", "finetune.epochs=0", "schedule=linear", "schedule.rounds=1")
MINE = """
import torch

seen = []
modes = []

def score(evidence, *, examples=70):
    modes.append(evidence.model.training)
    for inputs, labels in evidence.batches(examples):
        seen.append(inputs.clone())
        evidence.model(inputs).sum().backward()
    for weight in evidence.weights:
        weight.data.fill_(7)
    return [torch.ones_like(weight) for weight in evidence.weights]

def wrong_shape(evidence):
    return [weight.flatten() for weight in evidence.weights]

def negative(evidence):
    return [-torch.ones_like(weight) for weight in evidence.weights]

def broken(evidence):
    raise RuntimeError("no score\\ntoday")
"""


def run(folder, *more):
    return prunelab.run(prunelab.compose(*overrides(folder), *more))


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mycriteria.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda name: (f"criterion._target_=mycriteria.{name}", "trusted=[mycriteria]")
    sys.modules.pop("mycriteria", None)


def test_a_criterion_of_ones_own_sees_training_data_only_and_leaves_no_trace(tmp_path, mine):
    result = run(tmp_path, *mine("score"), "schedule.rounds=1", "finetune.epochs=0", "strategy=l1", "amount=0.5")
    seen = sys.modules["mycriteria"].seen
    assert [len(batch) for batch in seen] == [2, 64, 6]  # the trial before training, then the round
    assert not any(sys.modules["mycriteria"].modes)
    known = {image.tobytes() for image in (mnist(limit=300).train.batch(slice(None))[0]).numpy()}
    assert all(image.tobytes() in known for batch in seen for image in batch.numpy())
    for name, mask in load_file(result.folder / "masks.safetensors").items():  # of equal scores the first go
        half = round(mask.numel() / 2)
        assert mask.flatten().tolist() == [False] * half + [True] * (mask.numel() - half), name
    assert not (result.model.fc1.weight == 7).any()


@pytest.mark.parametrize(
    ("name", "said"), [("wrong_shape", "scores for a weight"), ("negative", "≥ 0"), ("broken", "no score today")]
)
def test_a_criterion_that_does_not_fit_is_refused_before_training(name, said, tmp_path, mine, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *args, **how: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=said) as caught:
        run(tmp_path, *mine(name))
    assert str(caught.value).startswith(f"criterion._target_=mycriteria.{name}: cannot score this model")


@pytest.mark.parametrize("strategy", ["custom", "threshold"])
def test_a_strategy_that_goes_by_itself_takes_no_criterion(strategy, tmp_path):
    with pytest.raises(ConfigError, match=f"strategy={strategy} goes by no criterion but its own"):
        run(tmp_path, f"strategy={strategy}", "criterion=taylor")


@pytest.mark.parametrize("strategy", ["l1", "global", "ln_structured", "lamp", "erk"])
def test_iterations_end_at_the_same_count(strategy, tmp_path):
    counts = []
    for iterations in (1, 7):
        more = (f"strategy={strategy}", "criterion=snip", f"criterion.iterations={iterations}")
        result = run(tmp_path, *UNTRAINED, "schedule.sparsity=0.83", *more)
        counts.append({k: int(v.sum()) for k, v in load_file(result.folder / "masks.safetensors").items()})
    assert sum(counts[0].values()) == sum(counts[1].values())
    if strategy in ("l1", "ln_structured", "erk"):
        assert counts[0] == counts[1]


def test_each_iteration_takes_from_what_the_one_before_left():
    """With other random scores in each iteration, what is kept is still nested; its sizes are 0.1^(k/4) of all."""
    layer = torch.nn.Linear(25, 40)
    masks.attach([(layer, "weight")])
    torch.manual_seed(0)
    kept = []

    def score():
        kept.append(layer.weight_mask.bool())
        return [torch.rand(40, 25)]

    strategies.prune(layer, [(layer, "weight")], global_unstructured, 0.9, score, 4)
    kept.append(layer.weight_mask.bool())
    assert [int(mask.sum()) for mask in kept] == [1000, 562, 316, 178, 100]  # 1000 · 0.1^(k/4)
    assert all(not (later & ~earlier).any() for earlier, later in itertools.pairwise(kept))


def flow(model: LeNet, kept) -> float:
    """What comes through from all-ones through |w| under the masks: 0 if a layer is dead. By hand, layer by layer."""
    weights = {
        k: v.abs().double() * kept[k] if k in kept else v.abs().double() * 0 for k, v in model.state_dict().items()
    }
    functional = torch.nn.functional
    x = torch.ones(1, 1, 28, 28, dtype=torch.float64)
    x = functional.max_pool2d(functional.conv2d(x, weights["conv1.weight"]), 2)
    x = functional.max_pool2d(functional.conv2d(x, weights["conv2.weight"]), 2).flatten(1)
    for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
        x = x @ weights[name].T
    return float(x.sum())


def test_synflow_keeps_every_layer_alive_where_magnitude_at_initialisation_does_not(tmp_path):
    through = {}
    for criterion in ("synflow", "magnitude"):
        result = run(tmp_path, *UNTRAINED, "schedule.compression=100", f"criterion={criterion}")
        kept = load_file(result.folder / "masks.safetensors")
        torch.manual_seed(0)
        through[criterion] = flow(result.model, kept)
        assert result.rounds[1]["compression_ratio"] == pytest.approx(100, rel=0.01)
        if criterion == "synflow":
            assert min(int(mask.sum()) for mask in kept.values()) > 5
    assert through["synflow"] > 0
    assert through["magnitude"] == 0


# Movement


def sgd(folder, *more):
    quick = ("optimizer=sgd", "optimizer.momentum=0", "optimizer.lr=0.1", "criterion=movement", "schedule.rounds=1")
    return run(folder, *quick, *more)


def test_movement_is_the_sum_of_what_plain_sgd_shows(tmp_path, monkeypatch):
    """Without momentum, −∂L/∂w = (w_after − w_before) / lr."""
    found, path = {}, []
    real, fit = prunelab.pruning.criteria.gather, training.fit

    def noted(model, names, initial, movement, *rest):
        found.update(movement)
        return real(model, names, initial, movement, *rest)

    def traced(model, *args, on_batch, **how):
        def see():
            path.append(masks.snapshot(model)[0])
            on_batch()

        yield from fit(model, *args, on_batch=see, **how)
        path.append(masks.snapshot(model)[0])

    monkeypatch.setattr(prunelab.pruning.criteria.base, "gather", noted)
    monkeypatch.setattr(training, "fit", traced)
    sgd(tmp_path, "finetune.epochs=0")
    path = path[:6]  # five steps of dense training
    for name in ("conv1.weight", "fc3.weight"):
        steps = itertools.pairwise(path)
        expected = sum((after[name] - before[name]) / 0.1 * before[name] for before, after in steps)
        assert torch.allclose(found[name], expected, atol=1e-5)
        assert float(found[name].abs().max()) > 0


def test_movement_goes_on_after_an_interruption_as_if_there_had_been_none(tmp_path):
    more = ("train.epochs=2", "amount=0.7")
    expected = sgd(tmp_path / "undisturbed", *more)
    with broken_off(7):
        sgd(tmp_path, *more)
    result = sgd(tmp_path, *more)
    assert numbers(result.folder) == numbers(expected.folder)
    one, other = (load_file(r.folder / "masks.safetensors") for r in (result, expected))
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = sgd(tmp_path, *more, "amount=0.6")  # from the stored dense stage
    assert again.rounds[0]["reused"]
    fresh = sgd(tmp_path / "fresh", *more, "amount=0.6")
    assert numbers(again.folder) == numbers(fresh.folder)


def test_movement_without_any_training_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="movement"):
        sgd(tmp_path, "train.epochs=0")
