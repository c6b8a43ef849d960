"""The bundled MNIST: the right digits, the same split for everybody, a cache that mends itself."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from prunelab.data import Dataset, Split, stratified
from prunelab.data import mnist as module
from prunelab.data.mnist import BUNDLE, MEAN, STD, cache_folder, decoded, mnist

PRINT_DIGEST = """
import hashlib
from prunelab.data.mnist import mnist
digest = hashlib.sha256()
for split in (lambda d: (d.train, d.validation, d.test))(mnist()):
    digest.update(split.inputs.numpy().tobytes() + split.labels.numpy().tobytes())
print(digest.hexdigest())
"""


def digest(data: Dataset) -> str:
    found = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        found.update(split.inputs.numpy().tobytes() + split.labels.numpy().tobytes())
    return found.hexdigest()


def examples(split: Split) -> list[tuple[bytes, int]]:
    return [(image.tobytes(), int(label)) for image, label in zip(split.inputs.numpy(), split.labels, strict=True)]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return mnist()


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    """torchvision's own reading, transformed as every tutorial does."""
    from torchvision import transforms
    from torchvision.datasets import MNIST

    folder = tmp_path_factory.mktemp("torchvision")
    shutil.copytree(BUNDLE, folder, dirs_exist_ok=True)
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
    for i in range(0, 10_000, 5):
        torch.testing.assert_close(images[i], oracle["test"][i][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["train", "validation"])
def test_training_images_are_torchvisions(data, oracle, name):
    split = getattr(data, name)
    where = {image.numpy().tobytes(): i for i, image in enumerate(oracle["train"].data)}
    index = torch.arange(0, len(split), len(split) // 500)
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


# The cache


@pytest.fixture
def folder(tmp_path):
    """A cache folder that is removed at once: 55 MB each."""
    folder = tmp_path / "cache"
    yield folder
    shutil.rmtree(folder)


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "flipped": flip,
    "cut": lambda content: content[: len(content) // 3],
    "empty": lambda content: b"",
    "garbage": lambda content: os.urandom(1_000),
    "longer": lambda content: content + b"x",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_cache_is_made_again_with_a_warning(data, folder, monkeypatch, caplog, kind):
    good = (cache_folder() / "mnist.safetensors").read_bytes()
    folder.mkdir()
    (folder / "mnist.safetensors").write_bytes(DAMAGE[kind](good))
    monkeypatch.setenv("PRUNELAB_CACHE", str(folder))
    with caplog.at_level(logging.WARNING):
        assert digest(mnist()) == digest(data)
    (warning,) = caplog.records
    assert "mnist.safetensors" in warning.getMessage()
    assert "damaged" in warning.getMessage()
    assert (folder / "mnist.safetensors").read_bytes() == good
    caplog.clear()
    mnist()
    assert not caplog.records


SMALL = {
    "train_images": torch.arange(24, dtype=torch.uint8).view(6, 2, 2) + 120,
    "train_labels": torch.arange(6, dtype=torch.uint8),
    "test_images": torch.arange(8, dtype=torch.uint8).view(2, 2, 2),
    "test_labels": torch.arange(2, dtype=torch.uint8),
}


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(save(SMALL)) - 1), value=st.integers(1, 255))
def test_any_changed_byte_is_noticed(tmp_path, position, value):
    """In the file's header too, where the names, types and shapes are."""
    content = bytearray(save(SMALL))
    content[position] ^= value
    path = tmp_path / "small.safetensors"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_extract", lambda folder: SMALL)
        patch.setattr(module, "SHA256", module._digest(SMALL))
        found = decoded(path)
    assert set(found) == set(SMALL)
    for name, tensor in SMALL.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize(("old", "new"), [(b"test_labels", b"test_labelt"), (b'"U8"', b'"I8"')])
def test_a_changed_header_is_noticed(tmp_path, monkeypatch, old, new):
    """A tensor renamed or read as another type, the bytes after the header being what they were."""
    path = tmp_path / "small.safetensors"
    path.write_bytes(save(SMALL).replace(old, new))
    monkeypatch.setattr(module, "_extract", lambda folder: SMALL)
    monkeypatch.setattr(module, "SHA256", module._digest(SMALL))
    found = decoded(path)
    assert set(found) == set(SMALL)
    assert {tensor.dtype for tensor in found.values()} == {torch.uint8}


def test_four_processes_at_once_on_an_empty_cache(data, folder):
    env = {**os.environ, "PRUNELAB_CACHE": str(folder)}
    pipe = functools.partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    started = [pipe([sys.executable, "-c", PRINT_DIGEST]) for _ in range(4)]
    said = [process.communicate(timeout=120) for process in started]
    assert said == [(f"{digest(data)}\n", "")] * 4
    assert [process.returncode for process in started] == [0] * 4
    assert {path.name for path in folder.rglob("*")} - {"mnist.lock"} == {"mnist.safetensors"}


def test_the_second_load_does_not_import_torchvision(data, python, tmp_path):
    code = "import json, sys; from prunelab.data.mnist import mnist; mnist(); print(json.dumps(list(sys.modules)))"
    result = python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    imported = set(json.loads(result.stdout))
    assert "torch" in imported
    assert not {"torchvision", "PIL", "torch._dynamo"} & imported


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNELAB_CACHE", "/somewhere/else")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == Path("/somewhere/else")
    monkeypatch.delenv("PRUNELAB_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "prunelab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "prunelab"


def test_a_cache_folder_that_cannot_be_written_is_an_os_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PRUNELAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match="file"):
        mnist()


def test_a_cache_folder_that_cannot_be_written_ends_the_command_in_one_line(cli, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    result = cli(*tiny, cwd=tmp_path, env={"PRUNELAB_CACHE": str(tmp_path / "file" / "cache")})
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("prunelab: ")
    assert str(tmp_path / "file" / "cache") in line
    assert "outputs=" not in line  # which would not help
