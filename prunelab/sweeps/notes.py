"""The files by which the processes of a sweep know of each other: `sweep.json`, and `tries.json` of each job."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from prunelab.runtime.json_data import read_json
from prunelab.stages import files


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep, as `sweep.json` in its folder lists them.

    Attributes:
        jobs: the overrides of each job; a job's number is its index.
        turn: the numbers of the jobs to run now; None for all.
    """

    jobs: Sequence[Sequence[str]]
    turn: Sequence[int] | None = None

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """Return the plan of a sweep; None if there is none, which is so under a sweeper that is not Hydra's own."""
        try:
            return cls(**read_json(folder / "sweep.json"))
        except FileNotFoundError:
            return None

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
            return cls(**read_json(folder / cls.FILE))
        except (OSError, ValueError, TypeError):
            return None

    @classmethod
    def now(cls, folder: Path) -> Tries:
        """Return what the file says, with the count at 0 if the job has stored an epoch since."""
        noted = cls.read(folder) or cls()
        rows = folder / "epochs.csv"
        epochs = rows.read_bytes().count(b"\n") - 1 if rows.exists() else 0
        return dataclasses.replace(noted, tries=0, epochs=epochs) if epochs > noted.epochs else noted

    def write(self, folder: Path) -> None:
        """Write the file into the folder of a job."""
        files.write_file(folder / self.FILE, json.dumps(dataclasses.asdict(self)).encode())


def lock(folder: Path, job: object) -> FileLock:
    """Return the lock that a process holds while it runs this job. It is free again when the process is gone."""
    return files.lock(folder / ".locks" / f"{job}.lock")
