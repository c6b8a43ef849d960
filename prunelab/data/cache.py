"""Where data sets are kept once they are decoded: made once, under a lock, and verified before every use."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save

from prunelab.stages.files import StorageError, write_file

log = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]
CHOOSES = "PRUNELAB_CACHE chooses another"
PATIENCE = 30.0  # seconds without a byte until a server is given up


class UnavailableError(StorageError):
    """Files of a data set that are not to be had; one line that says which, and what to do."""

    def __init__(self, message: str) -> None:
        OSError.__init__(self, message)  # one argument, so that it comes whole out of a worker process


def cache_folder() -> Path:
    """`PRUNELAB_CACHE`, else `prunelab` in the user's XDG cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunelab"
    return Path(os.environ.get("PRUNELAB_CACHE") or default)


def cached(path: Path, make: Callable[[], Tensors], sha256: str | None = None) -> Tensors:
    """The tensors in the file `path`, which is made if it is missing or damaged.

    Any number of processes may ask at once: one makes the file, aside and under a lock; the others wait for it.

    Args:
        make: gives the tensors; called under the lock.
        sha256: the `digest` that they must have; None: the one that was written with them.

    Raises:
        StorageError: if the folder cannot be used; whatever `make` raises.
    """
    with _naming(path.parent):
        if (tensors := _read(path, sha256)) is not None:
            return tensors
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if (tensors := _read(path, sha256)) is not None:
                return tensors
            if path.exists():
                log.warning("%s is damaged; made again", path)
            tensors = make()
            content = save(tensors, None if sha256 else {"sha256": digest(tensors)})
            write_file(path, content)
    return load(content)


def downloaded(name: str, files: Mapping[str, str], mirrors: Sequence[str]) -> dict[str, bytes]:
    """The contents of files in `raw/<name>` of the cache folder, downloaded by torchvision if they are not there.

    Args:
        files: MD5 by file name. A file with another MD5 is as good as none.
        mirrors: addresses that the name is appended to, tried in turn.

    Raises:
        UnavailableError: if one cannot be had; what is there of it does not stay.
    """
    folder = cache_folder() / "raw" / name
    contents: dict[str, bytes] = {}
    for file, md5 in files.items():
        if (content := _whole(folder / file, md5)) is None:
            reason = _download(folder / file, md5, [f"{mirror}{file}" for mirror in mirrors])
            content = _whole(folder / file, md5)
        if content is None:
            missing = ", ".join(other for other in files if _whole(folder / other, files[other]) is None)
            raise UnavailableError(
                f"{name}: cannot be downloaded ({reason}); put {missing} into {folder.absolute()}, "
                "as published; PRUNELAB_CACHE chooses another cache folder"
            )
        contents[file] = content
    return contents


def digest(tensors: Tensors) -> str:
    """SHA-256 over names, types, shapes and contents."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.numpy().data)
    return found.hexdigest()


def _read(path: Path, sha256: str | None) -> Tensors | None:
    """The tensors, if the file is there and whole."""
    try:
        content = path.read_bytes()
        tensors = load(content)
        return tensors if digest(tensors) == (sha256 or _written(content)) else None
    except (FileNotFoundError, NotADirectoryError, SafetensorError, ValueError):
        return None


def _written(content: bytes) -> str | None:
    """The digest in the file's header: its length, 8 bytes, then JSON."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header.get("__metadata__", {}).get("sha256")


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Turns an OSError into a StorageError that names the cache folder and what chooses another."""
    try:
        yield
    except UnavailableError:
        raise
    except OSError as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error  # a StorageError hints at `outputs`
        raise StorageError(folder, cause if isinstance(cause, OSError) else error, CHOOSES) from error


def _whole(path: Path, md5: str) -> bytes | None:
    """The file's content, if it is there and as published."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5 else None


def _download(path: Path, md5: str, addresses: Sequence[str]) -> str:
    """Tries to download a file, aside, then renamed. Returns why not, if it cannot."""
    from torchvision.datasets.utils import download_url  # only here: it takes seconds, and once is enough

    part = path.with_name(f".{path.name}.part")
    reason = "no address"
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        for address in addresses:
            try:
                download_url(address, path.parent, part.name, md5)
                part.replace(path)
                break
            except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: another MD5
                reason = " ".join(str(getattr(error, "reason", error)).split())
    finally:
        socket.setdefaulttimeout(before)
        part.unlink(missing_ok=True)
    return reason
