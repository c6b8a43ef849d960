"""Stages: named by what they depend on, stored whole or not at all, verified before use, resumed after any crash.

stages/<name>/            a finished stage: weights, masks, rows, and a manifest with the SHA-256 of every file
stages/<name>.work/<n>/   its last checkpoint while it is being computed, a folder of the same kind
stages/locks/<name>.lock  a kernel lock: the second process that wants the stage waits, then reuses it
stages/damaged/           what failed its digests, set aside
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from prunelab.stages import files
from prunelab.stages.files import StorageError

Row = dict[str, Any]
FORMAT = 1  # raise it when the same inputs no longer give the same result
NAME_LENGTH = 32
# What a file with strange content may raise while it is read.
UNREADABLE = (
    files.DamagedError,
    SafetensorError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """What a stage's result depends on, and nothing else; and how it is computed.

    Attributes:
        kind: `dense` or `round`.
        parent: the name of the stage it goes on from; None for the first.
        inputs: the config keys that it reads, as plain data. Keys at null are left out of the name, so that a key
            added later, with null as its default, does not orphan old stages.
        compute: gives the result, from the checkpoint if there is one.
    """

    kind: str
    parent: str | None
    inputs: Mapping[str, Any]
    compute: Callable[[Work], State] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """SHA-256 of the canonical JSON of all the above; its first 32 hexadecimal digits."""
        return name_of(self.canonical())

    def canonical(self) -> bytes:
        """Sorted keys, no spaces, no nulls, no NaN."""
        content = {"format": FORMAT, "kind": self.kind, "parent": self.parent, "inputs": self.inputs}
        return json.dumps(_without_nulls(content), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def name_of(canonical: bytes) -> str:
    """The name of the stage that a canonical JSON describes."""
    return hashlib.sha256(canonical).hexdigest()[:NAME_LENGTH]


@dataclass
class State:
    """A stage's result: tensors by the dense model's own names, on the CPU, and the rows it wrote.

    `movement` is what the criterion of that name goes by; empty under any other.
    """

    weights: dict[str, Any]
    masks: dict[str, Any]
    row: Row
    epochs: list[Row] = field(default_factory=list)
    movement: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    reused: bool = False


class Work:
    """The stage being computed, and its checkpoints. Only the holder of the stage's lock has one."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.stage = folder, stage

    def load(self) -> Row | None:
        """The last checkpoint that is whole, and of this stage; None if there is none."""
        for folder in reversed(self._saved()):
            checkpoint = _verified(folder, self._read)
            if checkpoint is not None:
                return checkpoint
        return None

    def save(self, checkpoint: Mapping[str, Any]) -> None:
        """Stores a checkpoint beside the one before, which goes only when the new one is whole."""
        import torch

        buffer = io.BytesIO()
        torch.save({"stage": self.stage, **checkpoint}, buffer)
        before = self._saved()
        number = int(before[-1].name) + 1 if before else 1
        files.write_folder(self.folder / str(number), {"checkpoint.pt": buffer.getvalue()})
        for folder in before:
            shutil.rmtree(folder, ignore_errors=True)

    def _saved(self) -> list[Path]:
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))

    def _read(self, content: dict[str, bytes]) -> Row:
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is no checkpoint of ours; it is refused just below
            checkpoint: Row = torch.load(io.BytesIO(content["checkpoint.pt"]), weights_only=True)
        if checkpoint["stage"] != self.stage:
            raise ValueError("it belongs to another stage")
        return checkpoint


class Store:
    """Finished stages in a folder, shared by any number of processes.

    Args:
        root: made when first needed.
        reuse: False computes every stage anew.
        interrupt: called while waiting for another process; may raise.
    """

    def __init__(self, root: Path, *, reuse: bool = True, interrupt: Callable[[], None] = lambda: None) -> None:
        self.root, self.reuse, self.interrupt = root, reuse, interrupt

    def run(self, stage: Stage) -> State:
        """The stage's result: looked up if it is there and whole, else computed and stored.

        Raises:
            StorageError: if the folder cannot be written; names it and the free bytes.
        """
        if self.reuse and (state := self.load(stage.name)) is not None:
            return state
        with self.lock(stage.name):
            if self.reuse and (state := self.load(stage.name)) is not None:
                return state  # another process was faster
            self._sweep_up(stage.name)
            work = Work(self.root / f"{stage.name}.work", stage.name)
            state = stage.compute(work)
            state.stage = stage.name
            files.write_folder(self.root / stage.name, _packed(stage, state))
            shutil.rmtree(work.folder, ignore_errors=True)
            return state

    def load(self, name: str) -> State | None:
        """A finished stage, if it is there, whole, and the one of that name; another is set aside and named."""

        def read(content: dict[str, bytes]) -> State:
            from safetensors.torch import load

            if name_of(content["stage.json"]) != name:
                raise ValueError("it belongs to another stage")
            return State(
                weights=load(content["weights.safetensors"]),
                masks=load(content["masks.safetensors"]),
                row=json.loads(content["round.json"]),
                epochs=[json.loads(line) for line in content["epochs.jsonl"].splitlines()],
                movement=load(content["movement.safetensors"]) if "movement.safetensors" in content else {},
                stage=name,
                reused=True,
            )

        return _verified(self.root / name, read)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Waits until no other process computes or removes the stage. The kernel frees the lock of a killed holder."""
        try:
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / "locks" / f"{name}.lock")
            while not _acquired(lock):
                self.interrupt()
        except OSError as error:
            raise StorageError(self.root, error) from error
        try:
            yield
        finally:
            lock.release()

    def _sweep_up(self, name: str) -> None:
        """Removes what a killed process left behind, and with `reuse=false` its checkpoints too."""
        for left in (*self.root.glob(f"{name}.*.tmp"), *self.root.glob(f"{name}.*.old")):
            shutil.rmtree(left, ignore_errors=True)
        for left in self.root.glob(f"{name}.work/*.tmp" if self.reuse else f"{name}.work"):
            shutil.rmtree(left, ignore_errors=True)


def _verified(folder: Path, read: Callable[[dict[str, bytes]], Any]) -> Any:
    """What `read` makes of a folder's files; None if it is not there, or damaged: then it is set aside and named."""
    for last in (False, True):
        try:
            content = files.read_folder(folder)
            return None if content is None else read(content)
        except UNREADABLE as error:
            if not last:
                continue  # it may have been replaced while it was read
            stages = folder.parents[1] if folder.parent.name.endswith(".work") else folder.parent
            aside = files.set_aside(folder, stages / "damaged")
            why = str(error).partition("\n")[0] or type(error).__name__
            log.warning("%s is damaged (%s); set aside as %s and computed again", folder, why, aside)
        except OSError as error:
            raise StorageError(folder, error) from error
    return None


def _acquired(lock: FileLock) -> bool:
    """Waits half a second at most, so that Ctrl-C is heard while another process computes the stage."""
    try:
        lock.acquire(timeout=0.5)
    except Timeout:
        return False
    return True


def _packed(stage: Stage, state: State) -> dict[str, bytes]:
    from safetensors.torch import save

    return {
        **({"movement.safetensors": save(state.movement)} if state.movement else {}),
        "weights.safetensors": save(state.weights),
        "masks.safetensors": save(state.masks),
        "epochs.jsonl": "".join(json.dumps(row) + "\n" for row in state.epochs).encode(),
        "round.json": json.dumps(state.row).encode(),
        "stage.json": stage.canonical(),
    }


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, (list, tuple)) else value
