"""Rounds that are more than prune and fine-tune: targets of compression, pruning while training, stopping in time."""

from dataclasses import replace

import pytest
import torch
from conftest import broken_off, numbers, run
from safetensors.torch import load_file, save_file

from prunelab.errors import ConfigError
from prunelab.experiment import phase
from prunelab.models.lenet import LeNet
from prunelab.pruning.pruner import Pruner
from prunelab.training import loop

# Compression


@pytest.mark.parametrize("target", [2, 100])
def test_a_compression_counts_what_cannot_be_pruned(target, tmp_path):
    quick = ("train.epochs=0", "finetune.epochs=0", "schedule=linear", "schedule.rounds=1")
    result = run(tmp_path, *quick, f"schedule.compression={target}")
    row = result.rounds[-1]
    left = int(load_file(result.folder / "masks.safetensors")["fc1.weight"].sum())
    kept = sum(int(mask.sum()) for mask in load_file(result.folder / "masks.safetensors").values())
    assert left > 0
    assert kept + 236 == round(60_074 / target)  # 236 biases stay
    assert row.compression_ratio == pytest.approx(target, rel=0.01)


def test_a_compression_beyond_what_can_be_pruned_is_refused(tmp_path):
    more = ("schedule=linear", "schedule.compression=300")
    with pytest.raises(ConfigError, match=r"236 of 60,074 parameters cannot be pruned; must be less than 254\.6"):
        run(tmp_path, *more)


# While training

GRADUAL = ("schedule=gradual", "schedule.sparsity=0.8", "schedule.every=2", "schedule.prunings=4", "finetune.epochs=2")


@pytest.fixture
def prunings(monkeypatch):
    """Prunable weights left after each pruning of the network that is trained."""
    left = []
    prune = Pruner.prune

    def noted(self, *args, **keywords):
        report = prune(self, *args, **keywords)
        left.append(self.masks.counts()[0])
        return report

    monkeypatch.setattr(Pruner, "prune", noted)
    return left


def test_gradual_prunes_while_it_trains_along_the_cubic_curve(tmp_path, prunings, monkeypatch):
    steps = []
    step = loop.train_step

    def counted(*args):
        before = len(prunings)
        loss = step(*args)
        steps.append(before)
        return loss

    monkeypatch.setattr(loop, "train_step", counted)
    result = run(tmp_path, *GRADUAL)
    sparsities = [0.8 * (1 - (1 - t / 4) ** 3) for t in range(1, 5)]
    expected = [59_838 * (1 - s) for s in sparsities]
    assert prunings == pytest.approx(expected, abs=3)
    assert steps[:5] == [0] * 5  # dense training
    assert steps[5:] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]  # after every second step
    assert result.rounds[1].sparsity == pytest.approx(0.8, abs=1e-4)
    assert len(result.rounds) == 2


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("undisturbed"), *GRADUAL)


@pytest.mark.parametrize("batch", [6, 7, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (11, 14))])
def test_gradual_interrupted_ends_as_if_it_had_not_been(batch, tmp_path, undisturbed):
    with broken_off(batch):
        run(tmp_path, *GRADUAL)
    result = run(tmp_path, *GRADUAL)
    assert numbers(result.folder) == numbers(undisturbed.folder)
    for name, value in undisturbed.model.state_dict().items():
        assert torch.equal(result.model.state_dict()[name], value)


def test_more_prunings_than_iterations_are_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(phase, "fit", lambda *args, **how: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=r"need 600 iterations of fine-tuning; finetune.epochs=1 are 5"):
        run(tmp_path, "schedule=gradual", "schedule.sparsity=0.5")


# Until


def test_until_ends_with_the_sparsest_round_within_the_tolerance(tmp_path, monkeypatch):
    accuracies = iter([0.9, 0.89, 0.88, 0.895, 0.87, 0.95])  # of dense training, then of rounds
    fit = phase.fit

    def known(*args, **how):
        for row in fit(*args, **how):
            yield replace(row, val_accuracy=next(accuracies))

    monkeypatch.setattr(phase, "fit", known)
    result = run(tmp_path, "schedule=until", "tolerance=0.02", "schedule.rounds=5")
    assert [row.round for row in result.rounds] == [0, 1, 2, 3, 4]  # round 2 loses just 0.02: within it
    left = sum(int(mask.sum()) for mask in load_file(result.folder / "masks.safetensors").values())
    assert left == result.rounds[3].nonzero - 236
    from prunelab.report import read_summary

    summary = read_summary(result.folder)
    assert summary["final"]["round"] == 3
    assert summary["stopped"] == {"round": 4, "val_accuracy": 0.87, "least": pytest.approx(0.88)}


def test_until_may_find_that_no_round_is_good_enough(tmp_path, monkeypatch):
    accuracies = iter([0.9, 0.1])
    fit = phase.fit
    monkeypatch.setattr(
        phase,
        "fit",
        lambda *args, **how: (replace(row, val_accuracy=next(accuracies)) for row in fit(*args, **how)),
    )
    result = run(tmp_path, "schedule=until")
    assert len(result.rounds) == 2
    assert all((mask == 1).all() for mask in load_file(result.folder / "masks.safetensors").values())


# A trained network


def test_a_checkpoint_is_pruned_as_it_is_and_dense_training_left_out(tmp_path):
    torch.manual_seed(3)
    trained = LeNet().state_dict()
    save_file(trained, tmp_path / "net.safetensors")
    torch.save(trained, tmp_path / "net.pt")
    results = [
        run(tmp_path, f"model.checkpoint={tmp_path / name}", "finetune.epochs=0", "schedule.rounds=1")
        for name in ("net.safetensors", "net.pt")
    ]
    for result in results:
        assert result.rounds[0].epochs == 0
        kept = load_file(result.folder / "masks.safetensors")
        for name, mask in kept.items():
            assert torch.equal(result.model.state_dict()[name], trained[name] * mask)
    assert results[1].rounds[0].reused  # the same tensors in another file are the same initial state
    (tmp_path / "net.safetensors").rename(tmp_path / "other.safetensors")
    moved = f"model.checkpoint={tmp_path / 'other.safetensors'}"
    again = run(tmp_path, moved, "finetune.epochs=0", "schedule.rounds=1")
    assert again.rounds[0].reused


@pytest.mark.parametrize("content", [None, b"no checkpoint", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_checkpoint_that_is_none_is_refused(content, tmp_path):
    file = tmp_path / "net.pt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(
        ConfigError, match=r"model.checkpoint=.*net.pt: (cannot be loaded into this model|no such file)"
    ):
        run(tmp_path, f"model.checkpoint={file}")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    torch.save({"fc1.weight": torch.zeros(3, 3)}, tmp_path / "net.pt")
    with pytest.raises(ConfigError, match=r"conv1\.weight"):
        run(tmp_path, f"model.checkpoint={tmp_path / 'net.pt'}")
