"""Criteria in whole runs: what they see, what is refused before training, movement recorded while training."""

import sys

import pytest
import torch
from conftest import broken_off, numbers, run
from safetensors.torch import load_file

from prunelab.data.mnist import mnist
from prunelab.errors import ConfigError
from prunelab.training import loop

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
    ("name", "said"), [("wrong_shape", "scores for"), ("negative", "≥ 0"), ("broken", "no score today")]
)
def test_a_criterion_that_does_not_fit_is_refused_before_training(name, said, tmp_path, mine, monkeypatch):
    monkeypatch.setattr(loop, "fit", lambda *args, **how: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=said) as caught:
        run(tmp_path, *mine(name))
    assert str(caught.value).startswith(f"criterion._target_=mycriteria.{name}: cannot score this model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["global", "ln_structured", "erk"])
def test_iterations_end_at_the_same_count(strategy, tmp_path):
    counts = []
    for iterations in (1, 7):
        more = (f"strategy={strategy}", "criterion=snip", f"criterion.iterations={iterations}")
        result = run(tmp_path, *UNTRAINED, "schedule.sparsity=0.83", *more)
        counts.append({k: int(v.sum()) for k, v in load_file(result.folder / "masks.safetensors").items()})
    assert sum(counts[0].values()) == sum(counts[1].values())
    if strategy != "global":
        assert counts[0] == counts[1]


def sgd(folder, *more):
    quick = ("optimizer=sgd", "optimizer.momentum=0", "optimizer.lr=0.1", "criterion=movement", "schedule.rounds=1")
    return run(folder, *quick, *more)


@pytest.mark.slow
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
    assert again.rounds[0].reused
    fresh = sgd(tmp_path / "fresh", *more, "amount=0.6")
    assert numbers(again.folder) == numbers(fresh.folder)


def test_movement_without_any_training_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="movement"):
        sgd(tmp_path, "train.epochs=0")
