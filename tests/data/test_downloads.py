"""Data sets that are downloaded: small ones in the same format, whose MD5s torchvision is told."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from small_sets import DAMAGE, digest, examples, idx_bytes, small_set

from prunelab.data import idx
from prunelab.data.cache import UnavailableError, cache_folder, downloaded
from prunelab.data.cifar10 import cifar10
from prunelab.data.dataset import Split
from prunelab.data.fashion_mnist import fashion_mnist
from prunelab.data.kmnist import kmnist

HALVES = ("train", "test")


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


@pytest.mark.slow
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
