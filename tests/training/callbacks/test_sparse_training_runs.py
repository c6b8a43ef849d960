"""SET and RigL in experiments: numbers of active weights, presets, controls, and resuming."""

import itertools

import pytest
import torch
from phases import assert_same_end, resumed, run

import prunelab
from prunelab.errors import ConfigError
from prunelab.training import loop as training
from prunelab.training.callbacks.drop_and_grow import DropAndGrow
from prunelab.training.callbacks.set_training import SET

SHORT = ("finetune.epochs=2", "sparse_training.every=2", "sparse_training.until=1")


@pytest.fixture
def counts(monkeypatch):
    """Active weights by tensor, and where they are, after every step of fine-tuning."""
    seen = []
    after_step = SET.after_step

    def noted(callback, iteration):
        after_step(callback, iteration)
        seen.append({item.name: item.mask.clone() for item in callback.phase.masked()})

    monkeypatch.setattr(DropAndGrow, "after_step", noted)
    return seen


@pytest.mark.parametrize("name", ["set", "rigl"])
def test_every_tensor_keeps_its_number_of_weights_at_every_step(tmp_path, counts, name):
    result = run(tmp_path, f"sparse_training={name}", "train.epochs=0", "train.batch_size=20", *SHORT)
    assert len(counts) == 30
    start = {tensor: int(mask.sum()) for tensor, mask in counts[0].items()}
    for found in counts:
        assert {tensor: int(mask.sum()) for tensor, mask in found.items()} == start
    assert sum(start.values()) == round(0.1 * 59_838)
    assert result.rounds[0].epochs == 0
    changes = [any(not torch.equal(a[t], b[t]) for t in a) for a, b in itertools.pairwise(counts)]
    # After steps 2, 4, … 28; the first step's masks are seen after it, so change i is step i + 2.
    expected = [step % 2 == 0 for step in range(2, 31)]
    expected[-1] = False  # step 30 is the last
    if name == "rigl":
        assert changes[:-3] == expected[:-3]
    else:
        assert changes == expected


def test_the_masks_at_the_end_are_the_result(tmp_path, counts):
    result = run(tmp_path, "sparse_training=set", *SHORT)
    for name, mask in counts[-1].items():
        assert (result.model.state_dict()[name][mask == 0] == 0).all()


@pytest.mark.slow
def test_the_presets_are_sparse_from_the_first_step(tmp_path):
    for name in ("set", "rigl"):
        config = prunelab.compose(f"sparse_training={name}")
        assert (config.train.epochs, config.finetune.epochs, config.amount) == (0, 4, 0.9)
        assert config.allocation._target_.startswith("prunelab.pruning.allocation.erk.")
        assert config.criterion._target_ == "prunelab.pruning.criteria.random.random"
        result = prunelab.run(prunelab.compose(f"sparse_training={name}", "data.limit=3000", f"outputs={tmp_path}"))
        assert [row.epochs for row in result.rounds] == [0, 4]
        assert 0.8999 < result.rounds[1].sparsity < 0.91  # weights that grow in a dead unit stay zero
        assert result.rounds[1].test_accuracy > 0.5


@pytest.mark.parametrize(("name", "batch"), [("set", 3), ("rigl", 8), ("sparse_momentum", 8)])
def test_a_broken_off_run_ends_the_same(tmp_path, name, batch):
    how = (f"sparse_training={name}", "train.epochs=0", *SHORT)
    expected = run(tmp_path / "whole", *how)
    assert_same_end(resumed(tmp_path, batch, *how), expected)


def test_too_short_a_fine_tuning_is_found_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *how, **more: pytest.fail("it was trained"))
    with pytest.raises(ConfigError, match=r"sparse_training.every=100: .* 5 iterations"):
        run(tmp_path, "sparse_training=set")


def test_a_control_is_trained_without_it(tmp_path, counts):
    """The ticket's masks stay where they are: only its five steps per epoch move weights."""
    run(tmp_path, "sparse_training=set", "rewind=0", "control=reinit", "schedule.rounds=1", *SHORT)
    assert len(counts) == 10
