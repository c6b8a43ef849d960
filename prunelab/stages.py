"""Stages: named by what they depend on, stored whole or not at all, verified before use, resumed after any crash.

stages/<name>/          a finished stage: weights, masks, rows, and a manifest with the SHA-256 of every file
stages/<name>.work/     its checkpoint while it is being computed, a folder of the same kind
stages/locks/<name>.lock a kernel lock: the second process that wants the stage waits, then reuses it
stages/damaged/         what failed its digests, set aside
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from prunelab import files
from prunelab.files import StorageError

Row = dict[str, Any]
FORMAT = 1  # raise it when the same inputs no longer give the same result
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
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:32]

    def canonical(self) -> str:
        """Sorted keys, no spaces, no nulls, no NaN."""
        content = {"format": FORMAT, "kind": self.kind, "parent": self.parent, "inputs": self.inputs}
        return json.dumps(_without_nulls(content), sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass
class State:
    """A stage's result: tensors by the dense model's own names, on the CPU, and the rows it wrote."""

    weights: dict[str, Any]
    masks: dict[str, Any]
    row: Row
    epochs: list[Row] = field(default_factory=list)
    stage: str = ""
    reused: bool = False


class Work:
    """The stage being computed, and its checkpoint. Only the holder of the stage's lock has one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, `weights_only`-loadable content; None if there is none that is whole."""
        import torch

        content = _whole(self.folder)
        return None if content is None else torch.load(_buffer(content["checkpoint.pt"]), weights_only=True)

    def save(self, checkpoint: Mapping[str, Any]) -> None:
        """Replaces the checkpoint. What was there stays loadable until the new one is whole."""
        import torch

        buffer = _buffer()
        torch.save(dict(checkpoint), buffer)
        files.write_folder(self.folder, {"checkpoint.pt": buffer.getvalue()})


class Store:
    """Finished stages in a folder, shared by any number of processes."""

    def __init__(self, root: Path, *, reuse: bool = True, interrupt: Callable[[], None] = lambda: None) -> None:
        self.root, self.reuse, self.interrupt = root, reuse, interrupt

    def run(self, stage: Stage) -> State:
        """The stage's result: looked up if it is there and whole, else computed and stored.

        Raises:
            StorageError: if the folder cannot be written; names it and the free bytes.
        """
        if self.reuse and (state := self.load(stage.name)) is not None:
            return state
        with self._lock(stage):
            if self.reuse and (state := self.load(stage.name)) is not None:
                return state
            work = Work(self.root / f"{stage.name}.work")
            if not self.reuse:
                shutil.rmtree(work.folder, ignore_errors=True)
            state = stage.compute(work)
            state.stage = stage.name
            files.write_folder(self.root / stage.name, _packed(stage, state))
            shutil.rmtree(work.folder, ignore_errors=True)
            return state

    def load(self, name: str) -> State | None:
        """A finished stage, if it is there and every digest matches; a damaged one is set aside and named."""
        from safetensors.torch import load

        content = _whole(self.root / name)
        if content is None:
            return None
        row = json.loads(content["round.json"])
        epochs = [json.loads(line) for line in content["epochs.jsonl"].splitlines()]
        weights, masks = load(content["weights.safetensors"]), load(content["masks.safetensors"])
        return State(weights, masks, row, epochs, stage=name, reused=True)

    @contextmanager
    def _lock(self, stage: Stage) -> Iterator[None]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / f"{stage.name}.lock")
            while not _acquired(lock):
                self.interrupt()
        except OSError as error:
            raise StorageError(self.root, error) from error
        try:
            yield
        finally:
            lock.release()


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
        "weights.safetensors": save(state.weights),
        "masks.safetensors": save(state.masks),
        "epochs.jsonl": "".join(json.dumps(row) + "\n" for row in state.epochs).encode(),
        "round.json": json.dumps(state.row).encode(),
        "stage.json": stage.canonical().encode(),
    }


def _whole(folder: Path) -> dict[str, bytes] | None:
    """The folder's files if they are whole; a damaged folder is set aside, and named in a warning."""
    try:
        return files.read_folder(folder)
    except files.DamagedError as error:
        aside = files.set_aside(folder, folder.parent / "damaged")
        log.warning("%s; set aside as %s and computed again", error, aside)
        return None
    except OSError as error:
        raise StorageError(folder, error) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, (list, tuple)) else value


def _buffer(content: bytes = b"") -> Any:
    import io

    return io.BytesIO(content)
