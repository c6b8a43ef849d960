"""MNIST: the right examples, the same split for everybody, limited in proportion."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import digest, examples

from prunelab.data.dataset import Dataset, Split, stratified, with_moments
from prunelab.data.mnist import BUNDLE, MEAN, STD, mnist


@pytest.fixture(scope="module")
def data() -> Dataset:
    return mnist()


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """torchvision's own reading, transformed as every tutorial does."""
    from torchvision import transforms
    from torchvision.datasets import MNIST

    folder = tmp_path_factory.mktemp("torchvision")
    shutil.copytree(BUNDLE, folder / "MNIST" / "raw")
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    yield {half: MNIST(str(folder), train=half == "train", download=True, transform=transform) for half in HALVES}
    shutil.rmtree(folder)


HALVES = ("train", "test")


# The split


def test_sizes(data):
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    for split in (data.train, data.validation, data.test):
        assert split.inputs.shape == (len(split), 1, 28, 28)
        assert split.labels.shape == (len(split),)
        assert split.labels.dtype == torch.int64


def test_train_and_validation_are_disjoint_and_together_the_60000(data, oracle):
    parts = Counter(examples(data.train)) + Counter(examples(data.validation))
    labels = oracle["train"].targets.tolist()
    assert parts == Counter(zip((image.numpy().tobytes() for image in oracle["train"].data), labels, strict=True))
    assert not {image for image, _ in examples(data.train)} & {image for image, _ in examples(data.validation)}


def test_test_split_is_torchvisions(data, oracle):
    images, labels = data.test.batch(slice(None))
    assert labels.tolist() == oracle["test"].targets.tolist()
    for i in range(0, 10_000, 50):
        torch.testing.assert_close(images[i], oracle["test"][i][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["train", "validation"])
def test_training_images_are_torchvisions(data, oracle, name):
    split = getattr(data, name)
    where = {image.numpy().tobytes(): i for i, image in enumerate(oracle["train"].data)}
    index = torch.arange(0, len(split), len(split) // 100)
    images, labels = split.batch(index)
    assert images.dtype == torch.float32
    for image, label, i in zip(images, labels, index, strict=True):
        expected, target = oracle["train"][where[split.inputs[i].numpy().tobytes()]]
        assert label == target
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)


def test_the_split_is_the_same_for_every_call(data):
    torch.manual_seed(123)
    assert digest(mnist()) == digest(data)


def test_the_split_is_mixed(data):
    """Training and validation have all classes in about the same shares, and no run of them."""
    for split in (data.train, data.validation):
        share = torch.bincount(split.labels).double() / len(split)
        assert (share - 0.1).abs().max() < 0.02
        assert split.labels[:100].unique().numel() == 10


def test_a_batch_is_an_index_slice(data):
    index = torch.tensor([7, 3, 3])
    images, labels = data.train.batch(index)
    assert torch.equal(labels, data.train.labels[index])
    assert torch.equal(images[1], images[2])
    assert data.train.inputs.dtype == torch.uint8  # the stored set stays as it was
    floats = Split(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))
    assert floats.batch(slice(0, 1))[0].tolist() == [[1.0]]


# A slice of it


@pytest.mark.parametrize("limit", [10, 300, 5_001])
def test_limit_takes_so_many_of_each_split_in_proportion(data, limit):
    small = mnist(limit=limit)
    for name in ("train", "validation", "test"):
        part, whole = getattr(small, name), getattr(data, name)
        assert len(part) == min(limit, len(whole))
        share = torch.bincount(whole.labels, minlength=10).double() * len(part) / len(whole)
        assert (torch.bincount(part.labels, minlength=10) - share).abs().max() < 1
        assert set(examples(part)) <= set(examples(whole))
    assert digest(small) == digest(mnist(limit=limit))


@pytest.mark.parametrize("limit", [None, 60_000, 10**9])
def test_no_limit(data, limit):
    assert digest(mnist(limit=limit)) == digest(data)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.data(), st.integers(0, 2**40))
def test_stratified_is_exact_and_in_proportion(labels, draw, seed):
    labels = torch.tensor(labels)
    limit = draw.draw(st.integers(0, len(labels)))
    index = stratified(labels, limit, seed)
    assert index.shape == (limit,)
    assert index.unique().numel() == limit
    share = torch.bincount(labels).double() * limit / len(labels)
    taken = torch.bincount(labels[index], minlength=len(share))
    assert ((taken - share).abs() < 1).all()
    assert torch.equal(index, stratified(labels, limit, seed))


def test_moments_of_mnist_are_the_known_ones(oracle):
    found = with_moments({"train_images": oracle["train"].data.unsqueeze(1)})
    assert (round(found["mean"].item(), 4), round(found["std"].item(), 4)) == (MEAN, STD)
