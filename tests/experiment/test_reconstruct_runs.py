"""`reconstruct=obs` in whole runs: the same masks, other weights, and what is refused before training."""

import pytest
import torch
from conftest import numbers, run
from safetensors.torch import load_file

from prunelab.errors import ConfigError
from prunelab.training import loop

ONE = ("schedule=one_shot", "amount=0.7", "finetune.epochs=0", "strategy=l1", "model=lenet")


def test_the_masks_are_the_criterions_and_the_weights_that_stay_are_updated(tmp_path):
    plain, updated = (run(tmp_path, *ONE, *more) for more in ((), ("reconstruct=obs",)))
    one, other = (load_file(result.folder / "masks.safetensors") for result in (plain, updated))
    assert all(torch.equal(mask, other[name]) for name, mask in one.items())
    assert updated.rounds[0].reused  # the dense network is the same stage
    assert not updated.rounds[1].reused
    before, after = plain.model.state_dict(), updated.model.state_dict()
    for name, mask in one.items():
        assert not after[name][~mask].any()
        assert not torch.equal(before[name][mask], after[name][mask])
    assert not updated.problems


@pytest.mark.slow
def test_pruning_while_training_and_the_criterion_of_the_same_curvature(tmp_path):
    gradual = ("schedule=gradual", "schedule.sparsity=0.7", "schedule.every=1", "schedule.prunings=2")
    more = (*gradual, "finetune.epochs=1", "criterion=obs", "criterion.iterations=2", "reconstruct=obs")
    first = run(tmp_path / "one", "model=lenet", *more)
    assert first.rounds[-1].sparsity == pytest.approx(0.7, abs=1e-4)
    assert numbers(run(tmp_path / "two", "model=lenet", *more).folder) == numbers(first.folder)


@pytest.mark.parametrize("criterion", ["magnitude", "obs"])
def test_recurrent_layers_are_refused_before_training(tmp_path, monkeypatch, criterion):
    monkeypatch.setattr(loop, "fit", lambda *args, **how: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=r"weight_ih_l0 of LSTM is not the weight of .*prune.exclude=") as raised:
        run(tmp_path, "model=lstm", "reconstruct=obs", f"criterion={criterion}")
    assert "\n" not in str(raised.value)
