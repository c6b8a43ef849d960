"""Folders that are written whole or not at all, and verified before they are read."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prunelab.errors import ConfigError
from prunelab.runtime.json_data import read_json
from prunelab.runtime.regular_file import regular

MANIFEST = "manifest.json"


class DamagedError(Exception):
    """A folder whose files are not what its manifest says."""


class StorageError(OSError):
    """A folder that cannot be read or written. The message names it, the free bytes, and how to choose another one."""

    def __init__(self, folder: Path, error: OSError, hint: str = "outputs= chooses another") -> None:
        super().__init__(f"{folder}: {error.strerror or error} ({_free(folder)}); {hint}")


@contextmanager
def writing(folder: Path, *hint: str) -> Iterator[None]:
    """Turn an OSError into a StorageError that names `folder`; `hint`: how to choose another one."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(folder, error, *hint) from error


def drop_link(*paths: Path, in_place: bool = False) -> None:
    """Remove each path that is neither a file nor a folder, and stands where something is to be written.

    A symbolic link may lead anywhere, and a named pipe would be waited for.

    Args:
        in_place: remove files with a second name, too (hard links): they are to be opened, not replaced.
    """
    for path in paths:
        strange = path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir())
        if strange or (in_place and path.is_file() and path.stat().st_nlink > 1):
            path.unlink()


def check_name(folder: Path) -> None:
    """Raise ConfigError for a folder whose path is not valid UTF-8: TensorBoard and JSON files could not name it."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{folder.absolute()}: its name is not valid UTF-8; choose another folder") from error


def is_below(name: str) -> bool:
    """Return whether a name, joined to a folder, stays in it: it is not absolute, and does not lead up by `..`."""
    return not Path(name).is_absolute() and not os.path.normpath(name).startswith("..") and "\0" not in name


def write_folder(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write a folder and its manifest under another name, fsync, and rename it: a crash leaves the old or the new one.

    Raises StorageError, and leaves the old folder, if it cannot be written.
    """
    aside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:12]}.tmp")
    manifest = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    try:
        aside.mkdir(parents=True)
        for name, data in {**content, MANIFEST: json.dumps(manifest, indent=1).encode()}.items():
            _write(aside / name, data)
        _sync_folder(aside)
        if os.path.lexists(folder):  # a folder cannot be renamed over a full one
            remove_folder(folder)
        aside.rename(folder)
        _sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise StorageError(folder.parent, error) from error


def write_file(path: Path, data: bytes, *hint: str) -> None:
    """Write a file under another name and rename it, so that a reader sees the old one or the new one.

    A link in its place is replaced. `hint`: how to choose another folder.

    Raises StorageError, and leaves the old file, if it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        _write(aside, data)
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StorageError(path.parent, error, *hint) from error


def read_folder(folder: Path) -> dict[str, bytes] | None:
    """Return the files that the manifest names, verified by SHA-256; None if there is no such folder.

    Raises DamagedError if the manifest or a file is missing, or differs from what was written.
    """
    if not folder.exists():
        return None
    try:
        manifest = read_json(folder / MANIFEST)
        content = {name: regular(folder / Path(name).name).read_bytes() for name in manifest}
        for name, data in content.items():
            if hashlib.sha256(data).hexdigest() != manifest[name]:
                raise DamagedError(f"{folder / name} is damaged")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedError(f"{error.filename} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedError(f"{folder / MANIFEST} is damaged") from error
    return content


def set_aside(path: Path, into: Path) -> Path:
    """Move a damaged folder into another one, under a new name, unless another process has done so; return its path."""
    target = into / f"{path.name}.{uuid.uuid4().hex[:12]}"
    try:
        drop_link(into)
        into.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    except FileNotFoundError:
        return into
    except OSError as error:
        raise StorageError(into, error) from error
    return target


def remove_folder(folder: Path) -> bool:
    """Remove a folder. It is renamed first, so that no reader finds a part of it. Return whether nothing is left."""
    old = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:12]}.old")
    folder.rename(old)
    shutil.rmtree(old, ignore_errors=True)
    return not old.exists()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(folder: Path) -> str:
    there = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), None)
    try:
        return f"{shutil.disk_usage(there).free:,} bytes free" if there else "no such folder"
    except OSError:
        return "free bytes unknown"
