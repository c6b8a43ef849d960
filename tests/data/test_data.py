"""The data sets: the right examples, the same split for everybody, a cache that mends itself, clear words offline."""

from __future__ import annotations

import copy
import errno
import functools
import gzip
import hashlib
import io
import json
import logging
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from prunelab.data import idx
from prunelab.data import mnist as module
from prunelab.data.cache import UnavailableError, cache_folder, cached, downloaded
from prunelab.data.cache import digest as digest_of
from prunelab.data.cifar10 import cifar10
from prunelab.data.dataset import Dataset, Split, describes, divide, stratified, with_moments
from prunelab.data.fashion_mnist import fashion_mnist
from prunelab.data.kmnist import kmnist
from prunelab.data.mnist import BUNDLE, MEAN, STD, mnist
from prunelab.data.synthetic import synthetic
from prunelab.stages.files import StorageError

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


@pytest.mark.parametrize("sha256", [None, digest_of(SMALL)])
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(save(SMALL)) - 1), value=st.integers(1, 255))
def test_any_changed_byte_is_noticed(tmp_path, sha256, position, value):
    """In the file's header too, where the names, types and shapes are, and the digest, unless prunelab knows it."""
    path = tmp_path / "small.safetensors"
    path.unlink(missing_ok=True)
    cached(path, lambda: SMALL, sha256)
    content = bytearray(path.read_bytes())
    content[position] ^= value
    path.write_bytes(content)
    found = cached(path, lambda: SMALL, sha256)
    assert set(found) == set(SMALL)
    for name, tensor in SMALL.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("sha256", [None, digest_of(SMALL)])
@pytest.mark.parametrize(
    ("old", "new"), [(b"test_labels", b"test_labelt"), (b'"U8"', b'"I8"'), (b"__metadata__", b"__metadatb__")]
)
def test_a_changed_header_is_noticed(tmp_path, sha256, old, new):
    """A tensor renamed or read as another type, the bytes after the header being what they were."""
    path = tmp_path / "small.safetensors"
    cached(path, lambda: SMALL, sha256)
    path.write_bytes(path.read_bytes().replace(old, new))
    found = cached(path, lambda: SMALL, sha256)
    assert set(found) == set(SMALL)
    assert {tensor.dtype for tensor in found.values()} == {torch.uint8}


def test_a_whole_cache_is_used_and_not_made_again(tmp_path):
    path = tmp_path / "small.safetensors"
    cached(path, lambda: SMALL)
    found = cached(path, lambda: pytest.fail("made again"))
    assert all(torch.equal(found[name], tensor) for name, tensor in SMALL.items())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small.lock", "small.safetensors"]


def test_a_full_disk_names_the_cache_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left.*PRUNELAB_CACHE chooses another") as caught:
        cached(tmp_path / "small.safetensors", lambda: SMALL)
    assert str(tmp_path) in str(caught.value)
    assert "outputs=" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["small.lock"]


@pytest.mark.parametrize("kind", [*DAMAGE, "missing"])
def test_a_damaged_bundle_is_said_in_one_line(tmp_path, monkeypatch, kind):
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle)
    labels = bundle / "train-labels-idx1-ubyte.gz"
    if kind == "missing":
        labels.unlink()
    else:
        labels.write_bytes(DAMAGE[kind](labels.read_bytes()))
    monkeypatch.setattr(module, "BUNDLE", bundle)
    monkeypatch.setenv("PRUNELAB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UnavailableError, match=r"bundled MNIST is damaged.*install prunelab again") as caught:
        mnist()
    assert "\n" not in str(caught.value)


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


# Colours


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


def test_moments_of_mnist_are_the_known_ones(oracle):
    found = with_moments({"train_images": oracle["train"].data.unsqueeze(1)})
    assert (round(found["mean"].item(), 4), round(found["std"].item(), 4)) == (MEAN, STD)


# Data sets that are downloaded: small ones in the same form, their MD5s told to torchvision


def idx_bytes(array):
    """As the four files have it."""
    return gzip.compress(
        struct.pack(f">HBB{array.dim()}I", 0, 8, array.dim(), *array.shape) + array.numpy().tobytes(), 1
    )


def small_set(shape, train=200, test=30):
    generator = torch.Generator().manual_seed(1)
    made = {}
    for half, count in (("train", train), ("test", test)):
        made[f"{half}_images"] = torch.randint(0, 256, (count, *shape), generator=generator).to(torch.uint8)
        made[f"{half}_labels"] = (torch.arange(count) % 10).to(torch.uint8)
    return made


def cifar_archive(tensors):
    """The binary version: in five parts, and the label before each image."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for half, names in (("train", [f"data_batch_{n}.bin" for n in range(1, 6)]), ("test", ["test_batch.bin"])):
            labels, images = tensors[f"{half}_labels"], tensors[f"{half}_images"]
            records = torch.cat([labels.unsqueeze(1), images.flatten(1)], 1)
            for name, part in zip(names, records.chunk(len(names)), strict=True):
                entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                entry.size = part.numel()
                archive.addfile(entry, io.BytesIO(part.numpy().tobytes()))
    return buffer.getvalue()


@pytest.fixture(params=["fashion_mnist", "kmnist", "cifar10"])
def small(request, tmp_path, monkeypatch):
    """(the function, its examples, the files it looks for), with an empty cache folder and no network."""
    import torchvision.datasets

    from prunelab.data import cifar10 as cifar_module

    name = request.param
    monkeypatch.setenv("PRUNELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("prunelab.data.dataset.VALIDATION", 40)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", no_network)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    if name == "cifar10":
        tensors = small_set((3, 32, 32))
        files = {cifar_module.FILE: cifar_archive(tensors)}
        monkeypatch.setattr(cifar_module, "MD5", hashlib.md5(files[cifar_module.FILE]).hexdigest())
    else:
        tensors = small_set((28, 28))
        files = {file: idx_bytes(tensors[half]) for half, file in idx.FILES.items()}
        resources = [(file, hashlib.md5(content).hexdigest()) for file, content in files.items()]
        owner = {"fashion_mnist": torchvision.datasets.FashionMNIST, "kmnist": torchvision.datasets.KMNIST}[name]
        assert sorted(file for file, _ in owner.resources) == sorted(files)
        monkeypatch.setattr(owner, "resources", resources)
    return {"fashion_mnist": fashion_mnist, "kmnist": kmnist, "cifar10": cifar10}[name], tensors, files


def no_network(url, filename, *_):
    raise URLError("Name or service not known")


def put(files, function):
    folder = cache_folder() / "raw" / function.__name__
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_set_from_files_that_are_there(small):
    function, tensors, files = small
    put(files, function)
    data = function()
    assert (len(data.train), len(data.validation), len(data.test)) == (160, 40, 30)
    for split in (data.train, data.validation, data.test):
        assert split.inputs.shape == (len(split), *function.shape)
        assert (split.inputs.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
    images = {half: tensors[f"{half}_images"].view(-1, *function.shape) for half in HALVES}
    expected = {half: Split(images[half], tensors[f"{half}_labels"].long()) for half in HALVES}
    assert examples(data.test) == examples(expected["test"])
    assert Counter(examples(data.train) + examples(data.validation)) == Counter(examples(expected["train"]))
    assert torch.bincount(data.validation.labels).tolist() == [4] * 10
    assert data.train.labels[:50].unique().numel() == 10
    assert function.classes == 10
    everything = torch.cat([data.train.batch(slice(None))[0], data.validation.batch(slice(None))[0]])
    torch.testing.assert_close(everything.mean((0, 2, 3)), torch.zeros(function.shape[0]), atol=1e-5, rtol=0)
    deviations = everything.transpose(0, 1).flatten(1).std(1, correction=0)
    torch.testing.assert_close(deviations, torch.ones(function.shape[0]), atol=1e-5, rtol=0)


def test_the_second_load_needs_neither_files_nor_torchvision(small, python, tmp_path):
    function, _, files = small
    folder = put(files, function)
    first = digest(function())
    shutil.rmtree(folder)
    assert digest(function()) == first
    limited = function(limit=20)
    assert [len(split) for split in (limited.train, limited.validation, limited.test)] == [20, 20, 20]
    assert torch.bincount(limited.train.labels).tolist() == [2] * 10
    code = f"""
import sys, prunelab.data.dataset
from {function.__module__} import {function.__name__}
prunelab.data.dataset.VALIDATION = 40
{function.__name__}()
print(*sys.modules)
"""
    result = python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not {"torchvision", "PIL"} & set(result.stdout.split())


def test_offline_says_in_one_line_what_to_put_where(small):
    function, _, files = small
    there, *missing = sorted(files)
    folder = put({there: files[there]} if missing else {}, function)
    with pytest.raises(OSError, match="Name or service not known") as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    assert "PRUNELAB_CACHE" in message
    assert "outputs=" not in message
    assert all(name in message for name in missing or [there])
    assert there not in message or not missing
    assert str(copy.copy(caught.value)) == message  # pickled and back, as a launcher's worker hands it over
    assert sorted(path.name for path in folder.iterdir()) == ([there] if missing else [])
    put(files, function)
    assert len(function().train) == 160  # as it says


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_not_read_and_not_taken_away(small, kind):
    function, _, files = small
    name, content = max(files.items(), key=lambda item: len(item[1]))
    folder = put({**files, name: DAMAGE[kind](content)}, function)
    with pytest.raises(UnavailableError, match=name):
        function()
    assert (folder / name).read_bytes()[:1] == DAMAGE[kind](content)[:1] or kind == "garbage"
    assert not (cache_folder() / f"{function.__name__}.safetensors").exists()


def test_files_are_downloaded_once_from_torchvisions_addresses(small, monkeypatch):
    function, _, files = small
    asked = []

    def served(url, filename, *_):
        asked.append(url)
        name = url.rsplit("/", 1)[1]
        Path(filename).write_bytes(files[name])

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", served)
    assert len(function().train) == 160
    assert sorted(url.rsplit("/", 1)[1] for url in asked) == sorted(files)
    folder = cache_folder() / "raw" / function.__name__
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    (cache_folder() / f"{function.__name__}.safetensors").unlink()
    function()
    assert len(asked) == len(files)


@pytest.mark.parametrize("interrupt", [URLError("reset"), KeyboardInterrupt(), None])
def test_half_a_download_does_not_stay(small, monkeypatch, interrupt):
    """Broken off, stopped by the user, or ended early without a word."""
    function, _, files = small

    def half(url, filename, *_):
        content = files[url.rsplit("/", 1)[1]]
        Path(filename).write_bytes(content[: len(content) // 2])
        if interrupt is not None:
            raise interrupt

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", half)
    expected = KeyboardInterrupt if isinstance(interrupt, KeyboardInterrupt) else UnavailableError
    with pytest.raises(expected):
        function()
    assert not list((cache_folder() / "raw" / function.__name__).iterdir())
    assert not list(cache_folder().glob("*.safetensors"))


def test_mirrors_are_tried_in_turn(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNELAB_CACHE", str(tmp_path))
    asked = []

    def second(url, filename, *_):
        asked.append(url)
        if "second" not in url:
            raise URLError("down")
        Path(filename).write_bytes(b"content")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", second)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    md5 = hashlib.md5(b"content").hexdigest()
    assert downloaded("any", {"file": md5}, ["http://first/", "http://second/"]) == {"file": b"content"}
    assert asked == ["http://first/file", "http://second/file"]


def test_offline_ends_the_command_in_one_line(cli, tiny, tmp_path):
    """With a proxy that nothing answers at, so that it is the same on a machine with a network."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    env = {**nowhere, "no_proxy": "", "NO_PROXY": "", "PRUNELAB_CACHE": str(tmp_path / "cache")}
    result = cli(*tiny, "data=kmnist", cwd=tmp_path, env=env)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("prunelab: kmnist: cannot be downloaded (")
    assert f"put {', '.join(idx.FILES.values())} into {tmp_path / 'cache' / 'raw' / 'kmnist'}" in line


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\1\0", b"\0\0\x08\x01\0\0\0\2\0"])
def test_idx_refuses_another_form(content):
    """Empty, no dimensions, floats, an element missing."""
    with pytest.raises(ValueError, match="train-images"):
        idx.decode(dict.fromkeys(idx.FILES.values(), gzip.compress(content)))


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


def test_describes_leaves_the_function_itself():
    def function():
        return 3

    assert describes(shape=(1, 2, 3), classes=4)(function) is function
    assert (function.shape, function.classes, function()) == ((1, 2, 3), 4, 3)


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
