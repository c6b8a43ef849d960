"""Kernel locks on folders that several processes write to. The kernel releases the locks of a process that is gone."""

import re
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from prunelab.stages import files

# Of `files.write_file`, and the folders of an export and of the proof at the end of a run.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp|\.(export|proof)\.[a-z0-9_]{8}")


def hold(path: Path, wait: float = 0, *, again: bool = False) -> FileLock | None:
    """Acquire and return a lock, to be released by its `release`; None if somebody else keeps it.

    Args:
        path: of the lock's file, which is made and stays. A link in its place is removed.
        wait: seconds to wait for somebody else; -1: as long as it takes.
        again: whether the thread that holds the lock may acquire it again.

    Raises:
        OSError: if the file cannot be written, or the file system has no locks.
    """
    files.drop_link(*([path.parent] if path.parent.name in ("locks", ".locks") else []))
    files.drop_link(path, in_place=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.absolute(), is_singleton=again)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        return None
    except NotImplementedError as error:
        raise OSError(f"{path}: the file system has no locks") from error
    return lock


def tidy(folder: Path) -> None:
    """Remove the temporary files that a killed command left in a folder. Call it only while holding its lock."""
    for left in folder.glob(".*.*"):
        if not TEMPORARY.fullmatch(left.name):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
