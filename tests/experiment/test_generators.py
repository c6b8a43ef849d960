"""Generators of Python and NumPy are seeded as torch's is: for initial weights, data, each epoch and each test."""

import random

import numpy as np
import pytest
import torch
from conftest import overrides, undisturbed_and_resumed
from safetensors.torch import load_file
from torch.utils.data import Dataset

import prunelab

TOY = "odd_networks"
FEW = ("train.batch_size=16", "amount=0.5", f"trusted=[{TOY},user_parts]")
DATA = ("data=synthetic", "data.examples=80")


def run(folder, *more, data=None):
    few = [item for item in overrides(folder) if not item.startswith("data")]
    return prunelab.run(prunelab.compose(*few, *FEW, *more), data=data)


def disturb():
    """Whatever ran in between."""
    random.seed(4)
    np.random.seed(5)
    torch.manual_seed(6)


def weights(result):
    return load_file(result.folder / "model.safetensors")


def same(one, other):
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


@pytest.mark.parametrize("name", ["NumpyNet", "RandomNet"])
def test_a_ticket_that_is_extended_goes_back_to_the_same_initial_weights(name, tmp_path):
    more = (*DATA, f"model._target_={TOY}.{name}", "strategy=lottery_ticket", "finetune.epochs=0")
    one = run(tmp_path, *more, "schedule.rounds=1")
    disturb()
    two = run(tmp_path, *more, "schedule.rounds=2")
    assert [row.reused for row in two.rounds] == [True, True, False]
    kept = load_file(two.folder / "masks.safetensors")["1.weight"]
    assert kept.sum() > 100
    assert torch.equal(weights(two)["1.weight"][kept], weights(one)["1.weight"][kept])  # the initial ones
    disturb()
    assert same(run(tmp_path / "fresh", *more, "schedule.rounds=2"), two)


@pytest.mark.parametrize("batch", [3, 5, 8])  # in the first epoch, at its end, in the round's
@pytest.mark.parametrize("data", [("data._target_=user_parts.noisy",), (*DATA, "data.shift=2", "data.flip=true")])
def test_random_data_and_batches_are_the_same_after_an_interruption(data, batch, tmp_path):
    more = (*data, "schedule.rounds=1")

    def experiment(folder):
        disturb()
        return run(folder, *more)

    expected, resumed = undisturbed_and_resumed(experiment, tmp_path, batch)
    assert same(expected, resumed)
    assert [row.test_loss for row in expected.rounds] == [row.test_loss for row in resumed.rounds]


@pytest.mark.slow
def test_a_network_that_draws_in_training_is_the_same_after_an_interruption_and_an_extension(tmp_path):
    more = (*DATA, f"model._target_={TOY}.LayerDrop", "strategy=lottery_ticket")

    def experiment(folder, rounds=2):
        disturb()
        return run(folder, *more, f"schedule.rounds={rounds}")

    expected, resumed = undisturbed_and_resumed(experiment, tmp_path, 8)
    assert same(expected, resumed)
    experiment(tmp_path / "extended", rounds=1)
    assert same(expected, experiment(tmp_path / "extended"))


def test_the_data_do_not_depend_on_what_is_pruned(tmp_path):
    more = ("data._target_=user_parts.noisy", "schedule.rounds=1", "finetune.epochs=0")
    first = run(tmp_path, *more)
    assert [row.reused for row in run(tmp_path, *more, "strategy=ln_structured").rounds] == [True, False]
    fresh = run(tmp_path / "fresh", *more, "strategy=ln_structured")
    assert fresh.rounds[0].test_loss == first.rounds[0].test_loss


class Augmented(Dataset):
    """A torch data set that augments its examples by NumPy and Python."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((1, 28, 28), index % 10 / 5 + float(np.random.rand()) + random.random()), index % 10


def test_a_torch_data_set_that_draws_random_numbers_is_the_same_in_every_run(tmp_path):
    more = ("model=lenet_300_100", "schedule.rounds=1")
    first = run(tmp_path, *more, data=(Augmented(), Augmented()))
    disturb()
    assert all(row.reused for row in run(tmp_path, *more, data=(Augmented(), Augmented())).rounds)
    other = run(tmp_path, *more, "seed=1", data=(Augmented(), Augmented()))
    assert other.rounds[0].test_loss != first.rounds[0].test_loss
