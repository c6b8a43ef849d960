"""Splits and what a data set says of itself, and the synthetic data set."""

from __future__ import annotations

import inspect

import pytest
import torch
from small_sets import digest, small_set

from prunelab.data.cifar10 import cifar10
from prunelab.data.dataset import Dataset, Split, describes, divide, with_moments
from prunelab.data.fashion_mnist import fashion_mnist
from prunelab.data.kmnist import kmnist
from prunelab.data.mnist import mnist
from prunelab.data.synthetic import synthetic

# Splits


def test_a_batch_of_colours_is_normalised_per_channel():
    """Worked by hand: (51/255 − 0.2) / 0.5 = 0, (255/255 − 0.5) / 0.25 = 2."""
    inputs = torch.tensor([51, 255], dtype=torch.uint8).view(1, 2, 1, 1)
    split = Split(
        inputs, torch.tensor([0]), torch.tensor([0.2, 0.5]).view(2, 1, 1), torch.tensor([0.5, 0.25]).view(2, 1, 1)
    )
    torch.testing.assert_close(split.batch(slice(None))[0].flatten(), torch.tensor([0.0, 2.0]))
    moved = split.to(torch.device("meta"))
    assert moved.mean.device.type == moved.std.device.type == moved.inputs.device.type == "meta"
    assert Split(inputs, torch.tensor([0]), 0.5).to(torch.device("meta")).mean == 0.5


def test_moments_are_those_of_the_pixels():
    images = torch.randint(0, 256, (50, 3, 4, 5), dtype=torch.uint8)
    found = with_moments({"train_images": images, "test_labels": torch.zeros(1)})
    floats = images.double() / 255
    torch.testing.assert_close(found["mean"], floats.mean((0, 2, 3)))
    torch.testing.assert_close(found["std"], floats.transpose(0, 1).flatten(1).std(1, correction=0))
    assert set(found) == {"train_images", "test_labels", "mean", "std"}


def test_divide_holds_out_in_proportion_and_the_same_for_every_call(monkeypatch):
    monkeypatch.setattr("prunelab.data.dataset.VALIDATION", 40)
    raw = with_moments({name: x.unsqueeze(1) if x.dim() == 3 else x for name, x in small_set((2, 2)).items()})
    data = divide(raw, None)
    assert digest(divide(raw, None)) == digest(data)
    order = torch.arange(200).flip(0)
    mine = divide(raw, None, order)
    assert torch.equal(mine.validation.inputs, raw["train_images"][order[:40]])
    assert torch.equal(mine.train.labels, raw["train_labels"][order[40:]].long())


# What a data set says of itself


def test_a_described_function_is_called_and_looks_like_itself():
    def function(limit: int | None = None) -> Dataset:
        """Return it."""
        return limit

    described = describes(shape=(1, 2, 3), classes=4)(function)
    assert (described.shape, described.classes, described(3), described(limit=4)) == ((1, 2, 3), 4, 3, 4)
    assert (described.__name__, described.__doc__) == ("function", "Return it.")
    assert inspect.signature(described) == inspect.signature(function)
    assert not hasattr(function, "shape")


@pytest.mark.parametrize("function", [mnist, synthetic])
def test_the_description_is_true(function):
    data = function()
    assert data.train.batch(slice(0, 1))[0].shape[1:] == function.shape
    assert data.train.labels.max() + 1 == function.classes


def test_the_other_descriptions():
    assert (fashion_mnist.shape, kmnist.shape, cifar10.shape) == ((1, 28, 28), (1, 28, 28), (3, 32, 32))
    assert fashion_mnist.classes == kmnist.classes == cifar10.classes == 10


# Synthetic


def test_synthetic_is_the_same_for_every_call_and_normalised():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    data = synthetic()
    assert torch.equal(torch.get_rng_state(), state)
    assert digest(synthetic()) == digest(data)
    assert data.train.inputs.mean().abs() < 0.2
    assert data.train.inputs.std().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(data.test.inputs[0], data.validation.inputs[0])


def test_synthetic_arguments():
    data = synthetic(examples=100, shape=[2, 5, 7], classes=4)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [100, 20, 20]
    assert data.train.inputs.shape == (100, 2, 5, 7)
    assert torch.bincount(data.train.labels).tolist() == [25] * 4
    assert torch.bincount(synthetic(examples=10).test.labels).tolist() == [1] * 10


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"shape": (28, 28)}, r"shape=\[28, 28\]"),
        ({"shape": (1, 0, 28)}, r"shape=\[1, 0, 28\]"),
        ({"classes": 1}, "classes=1"),
        ({"examples": 9}, "examples=9"),
    ],
)
def test_synthetic_quotes_wrong_values(wrong, said):
    with pytest.raises(ValueError, match=said):
        synthetic(**wrong)


def test_a_linear_model_learns_synthetic_in_two_epochs():
    torch.manual_seed(0)
    data = synthetic()
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    optimizer = torch.optim.Adam(model.parameters())
    for start in [*range(0, 5_000, 64)] * 2:
        images, labels = data.train.batch(slice(start, start + 64))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    images, labels = data.test.batch(slice(None))
    assert (model(images).argmax(1) == labels).float().mean() > 0.9
