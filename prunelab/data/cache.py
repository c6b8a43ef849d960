"""The cache of decoded data sets: each file is written once, under a lock, and verified whenever it is read."""

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
HINT = "PRUNELAB_CACHE chooses another"
TIMEOUT = 30.0  # seconds without a byte from a server


class UnavailableError(StorageError):
    """Files of a data set are missing and cannot be downloaded. The message says which, and what to do."""

    def __init__(self, message: str) -> None:
        OSError.__init__(self, message)  # one argument, so that pickling keeps the message


def cache_folder() -> Path:
    """Return `PRUNELAB_CACHE`, else `prunelab` in the user's XDG cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunelab"
    return Path(os.environ.get("PRUNELAB_CACHE") or default)


def cached(path: Path, make: Callable[[], Tensors], sha256: str | None = None) -> Tensors:
    """Return the tensors in a file, which is written first if it is missing or damaged.

    Any number of processes may call this at once: one writes the file, the others wait for it.

    Args:
        path: a .safetensors file.
        make: returns the tensors; called under the lock.
        sha256: the `digest` that they must have; None: the one that was written with them.

    Raises:
        StorageError: if the folder cannot be read or written.
    """
    with _storage_errors(path.parent):
        if (tensors := _read(path, sha256)) is not None:
            return tensors
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if (tensors := _read(path, sha256)) is not None:
                return tensors
            if path.exists():
                log.warning("%s is damaged; written again", path)
            tensors = make()
            content = save(tensors, None if sha256 else {"sha256": digest(tensors)})
            write_file(path, content)
    return load(content)


def downloaded(name: str, files: Mapping[str, str], mirrors: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of files in `raw/<name>` of the cache folder; download those that are missing.

    Args:
        name: the data set's name.
        files: MD5 by file name. A file with another MD5 counts as missing.
        mirrors: addresses that a file's name is appended to, tried in turn.

    Raises:
        UnavailableError: if a file is missing and cannot be downloaded; a partial download is removed.
    """
    folder = cache_folder() / "raw" / name
    contents: dict[str, bytes] = {}
    for file, md5 in files.items():
        if (content := _published(folder / file, md5)) is None:
            reason = _download(folder / file, md5, [f"{mirror}{file}" for mirror in mirrors])
            content = _published(folder / file, md5)
        if content is None:
            missing = ", ".join(other for other in files if _published(folder / other, files[other]) is None)
            raise UnavailableError(
                f"{name}: cannot be downloaded ({reason}); put {missing} into {folder.absolute()}, "
                "as published; PRUNELAB_CACHE chooses another cache folder"
            )
        contents[file] = content
    return contents


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of the tensors' names, types, shapes and contents."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _read(path: Path, sha256: str | None) -> Tensors | None:
    """Return the tensors, or None if the file is missing or damaged."""
    try:
        content = path.read_bytes()
        tensors = load(content)
        return tensors if digest(tensors) == (sha256 or _written(content)) else None
    except (FileNotFoundError, NotADirectoryError, SafetensorError, ValueError):
        return None


def _written(content: bytes) -> str | None:
    """Return the digest in the file's header, which is 8 bytes of length and then JSON."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header.get("__metadata__", {}).get("sha256")


@contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names the cache folder and PRUNELAB_CACHE."""
    try:
        yield
    except UnavailableError:
        raise
    except OSError as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error  # a StorageError hints at `outputs`
        raise StorageError(folder, cause if isinstance(cause, OSError) else error, HINT) from error


def _published(path: Path, md5: str) -> bytes | None:
    """Return the file's content, or None if it is missing or not as published."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5 else None


def _download(path: Path, md5: str, addresses: Sequence[str]) -> str:
    """Download a file beside its place and rename it; return the reason of the last failure."""
    from torchvision.datasets.utils import download_url  # its import takes seconds

    part = path.with_name(f".{path.name}.part")
    reason = "no address"
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
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
