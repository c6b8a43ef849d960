"""The files by which the processes of a sweep know of each other: `sweep.json`, and `tries.json` of each job."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from prunelab import report
from prunelab.errors import ConfigError
from prunelab.records import from_plain
from prunelab.runtime.json_data import read_json
from prunelab.runtime.streams import say
from prunelab.stages import files, locks


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep, as `sweep.json` in its folder lists them.

    Attributes:
        jobs: the overrides of each job; a job's number is its index.
        turn: the numbers of the jobs to run now; None for all.
        folders: of each job, below the folder of the sweep; empty: the job's number.
        study: identifies the study of a search; None for a sweep.
    """

    jobs: Sequence[Sequence[str]]
    turn: Sequence[int] | None = None
    folders: Sequence[str] = ()
    study: str | None = None

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """Return the plan of a sweep; None if there is none, which is so under a sweeper that is not Hydra's own."""
        try:
            return from_plain(cls, read_json(folder / "sweep.json"))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{folder / 'sweep.json'}: is damaged") from error

    def write(self, folder: Path) -> None:
        """Write the plan into the folder of a sweep, which is made if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        files.write_file(folder / "sweep.json", json.dumps(dataclasses.asdict(self), indent=1).encode())


@dataclass(frozen=True)
class Tries:
    """How often a job was started, as `tries.json` in its folder counts. Written by the process that runs the job.

    Attributes:
        tries: number of starts since the last one that stored an epoch.
        epochs: number of epochs stored before these starts.
        ended: whether the job completed or failed.
    """

    FILE = "tries.json"

    tries: int = 0
    epochs: int = 0
    ended: bool = False

    @classmethod
    def read(cls, folder: Path) -> Tries | None:
        """Return what the file says; None if it cannot be read."""
        try:
            return from_plain(cls, read_json(folder / cls.FILE))
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    @classmethod
    def now(cls, folder: Path) -> Tries:
        """Return what the file says, with the count at 0 if the job has stored an epoch since."""
        noted = cls.read(folder) or cls()
        rows = folder / "epochs.csv"
        epochs = rows.read_bytes().count(b"\n") - 1 if rows.is_file() else 0
        return dataclasses.replace(noted, tries=0, epochs=epochs) if epochs > noted.epochs else noted

    def write(self, folder: Path) -> None:
        """Write the file into the folder of a job."""
        files.write_file(folder / self.FILE, json.dumps(dataclasses.asdict(self)).encode())


def lock(folder: Path, job: object, wait: float = -1) -> FileLock | None:
    """Acquire the lock that a process holds while it runs this job. It is free again when the process is gone.

    Returns None if that takes more than `wait` seconds; -1: no limit. StorageError if the folder cannot be written.
    """
    with files.writing(folder):
        return locks.hold(folder / ".locks" / f"{job}.lock", wait)


@contextmanager
def locked(folder: Path, job: object, wait: float = -1) -> Iterator[bool]:
    """Hold a job's lock within the context. Yield whether it was acquired; arguments as of `lock`."""
    held = lock(folder, job, wait)
    try:
        yield held is not None
    finally:
        if held is not None:
            held.release()


def claim(folder: Path, jobs: Sequence[Sequence[str]]) -> FileLock:
    """Lock a folder for a sweep of these jobs, and remove what a killed one left there.

    Raises:
        ConfigError: if another process writes it, or it holds a run, a search or a sweep of other jobs.
        StorageError: if it cannot be written.
    """
    files.check_name(folder)
    key, choose = f"hydra.sweep.dir={folder}", "choose another folder"
    if (folder / "summary.json").exists():
        raise ConfigError(f"{key}: holds a run; {choose}")
    if (folder.parent / "sweep.json").exists():
        raise ConfigError(f"{key}: belongs to the sweep or search in {folder.parent}; {choose}")
    held = lock(folder, "sweep", 0)
    if held is None:
        raise ConfigError(f"{key}: another sweep writes into this folder; wait for it, or {choose}")
    locks.tidy(folder)
    files.drop_link(folder / "sweep.json")
    earlier = Plan.read(folder)
    for number, (new, old) in enumerate(itertools.zip_longest(jobs, earlier.jobs if earlier else jobs)):
        if new != old:
            was, now = report.names([old or ("none",), new or ("none",)])
            say(f"1 of {len(jobs)} refused: {now}", one_line=True)  # as any job that ends without a result
            raise ConfigError(f"{key}: holds another sweep, whose job {number} is {was}, not {now}; {choose}")
    return held
