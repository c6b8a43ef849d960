"""The cache: written once, verified before every use, and clear about a folder that cannot be used."""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from small_sets import DAMAGE, digest

from prunelab.data import mnist as module
from prunelab.data.cache import UnavailableError, cache_folder, cached
from prunelab.data.cache import digest as digest_of
from prunelab.data.dataset import Dataset
from prunelab.data.mnist import BUNDLE, mnist
from prunelab.stages.files import StorageError

PRINT_DIGEST = """
import hashlib
from prunelab.data.mnist import mnist
digest = hashlib.sha256()
for split in (lambda d: (d.train, d.validation, d.test))(mnist()):
    digest.update(split.inputs.numpy().tobytes() + split.labels.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return mnist()


@pytest.fixture
def folder(tmp_path):
    """A cache folder that is removed at once: 55 MB each."""
    folder = tmp_path / "cache"
    yield folder
    shutil.rmtree(folder)


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
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.slow
def test_four_processes_at_once_on_an_empty_cache(data, folder):
    env = {**os.environ, "PRUNELAB_CACHE": str(folder)}
    pipe = functools.partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    started = [pipe([sys.executable, "-c", PRINT_DIGEST]) for _ in range(4)]
    said = [process.communicate(timeout=120) for process in started]
    assert said == [(f"{digest(data)}\n", "")] * 4
    assert [process.returncode for process in started] == [0] * 4
    assert {path.name for path in folder.rglob("*")} - {"mnist.lock"} == {"mnist.safetensors"}


def test_the_second_load_does_not_import_torchvision(data, warm_python, tmp_path):
    code = "import json, sys; from prunelab.data.mnist import mnist; mnist(); print(json.dumps(list(sys.modules)))"
    result = warm_python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    imported = set(json.loads(result.stdout))
    assert "torch" in imported
    assert not {"torchvision", "torch._dynamo"} & imported


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
