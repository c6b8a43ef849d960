"""A run folder is written by one process at a time, and by runs of one config."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from prunelab.config.compose import in_sweep
from prunelab.config.digest import difference, digest
from prunelab.errors import ConfigError
from prunelab.runtime.json_data import read_json
from prunelab.stages import files, locks

SUMMARY, SWEEP = "summary.json", "sweep.json"
ELSE = "choose another folder"


def claim(folder: Path, config: Mapping[str, Any], live: str = "") -> FileLock:
    """Lock a run folder for a run of this config, and remove what a killed command left there; return the lock.

    A folder in which an earlier run has made its plan may be used again by a run of the same config only.

    Args:
        folder: created if it does not exist.
        live: digest of the live model and data, if there are any.

    Raises:
        ConfigError: if another process writes the folder, or it holds a run of another config or a sweep.
        StorageError: if the folder cannot be read or written.
    """
    files.check_name(folder)
    for sweep in (folder,) if in_sweep() else (folder, folder.parent):
        if (sweep / SWEEP).exists():
            raise ConfigError(f"{folder}: belongs to the sweep or search in {sweep}; {ELSE}")
    lock = write(folder)
    try:
        check(folder, config, live)
    except BaseException:
        lock.release()
        raise
    return lock


def write(folder: Path) -> FileLock:
    """Lock a run folder, to be changed by this process alone; errors as for `claim`."""
    with files.writing(folder, ELSE):
        lock = locks.hold(folder / ".lock", again=True)
        if lock is not None:
            locks.tidy(folder)
    if lock is None:
        raise ConfigError(f"{folder}: another process writes into this folder; wait for it, or {ELSE}")
    return lock


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `write` within the context."""
    lock = write(folder)
    try:
        yield
    finally:
        lock.release()


def check(folder: Path, config: Mapping[str, Any], live: str = "") -> None:
    """Raise ConfigError if a run of another config has begun in this folder; arguments as of `claim`."""
    files.drop_link(folder / SUMMARY)
    try:
        earlier = read_json(folder / SUMMARY)
        begun, before = "plan" in earlier, earlier["config"]
        same = (earlier.get("digest") or digest(before)) == digest(config, live)
    except FileNotFoundError:
        return
    except OSError as error:
        raise files.StorageError(folder, error) from error
    except (ValueError, LookupError, TypeError, AttributeError):
        begun, before, same = (folder / "rounds.csv").exists(), {}, False
    if begun and not same:
        what = f"a run of another config ({difference(config, before)})" if before else "a run of an unknown config"
        raise ConfigError(f"{folder}: holds {what}; {ELSE}")
