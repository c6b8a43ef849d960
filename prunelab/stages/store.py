"""The store of finished stages: looked up by name, written whole or not at all, verified before use.

stages/<name>/            a finished stage: weights, masks, records, and a manifest with the SHA-256 of every file
stages/<name>.work/<n>/   its last checkpoint while it is being computed
stages/locks/<name>.lock  a kernel lock: a second process that needs the stage waits, then reuses it
stages/damaged/           folders whose digests were wrong
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prunelab.records import EpochRecord, RoundRecord, from_plain, plain
from prunelab.runtime import turns
from prunelab.runtime.json_data import parse_json
from prunelab.stages import files, locks
from prunelab.stages.checkpoint import Work, verified
from prunelab.stages.stage import Stage, State, name_of

WAIT = (0.05, 0.5)  # seconds to wait before trying a lock again that another process holds: the first wait, the longest


class Store:
    """Finished stages in a folder, shared by any number of processes.

    Args:
        root: the folder; created when first needed.
        reuse: whether finished stages are loaded; False: every stage is computed.
        interrupt: called while waiting for another process; may raise.
    """

    def __init__(self, root: Path, *, reuse: bool = True, interrupt: Callable[[], None] = lambda: None) -> None:
        self.root, self.reuse, self.interrupt = root, reuse, interrupt

    def run(self, stage: Stage) -> State:
        """Return the stage's result: loaded if it is there and undamaged, else computed and stored.

        Raises StorageError if the folder cannot be written.
        """
        name = stage.name
        if self.reuse and (state := self.load(name)) is not None:
            return state
        with self.lock(name):
            if self.reuse and (state := self.load(name)) is not None:
                return state  # another process was faster
            # What a killed process left; with `reuse=false` its checkpoints too.
            for pattern in (f"{name}.*.tmp", "*.old", f"{name}.work/*.tmp" if self.reuse else f"{name}.work"):
                for left in self.root.glob(pattern):
                    shutil.rmtree(left, ignore_errors=True)
            work = Work(self.root / f"{name}.work", name)
            state = stage.compute(work)
            state.stage = name
            files.write_folder(self.root / name, _packed(stage, state))
            shutil.rmtree(work.folder, ignore_errors=True)
            return state

    def load(self, name: str) -> State | None:
        """Return a finished stage; None if it is not there or damaged, in which case it is set aside."""

        def read(content: dict[str, bytes]) -> State:
            from safetensors.torch import load

            if name_of(content["stage.json"]) != name:
                raise ValueError("it belongs to another stage")
            record = parse_json(content["round.json"])
            return State(
                weights=load(content["weights.safetensors"]),
                masks=load(content["masks.safetensors"]),
                record=None if record is None else from_plain(RoundRecord, record),
                epochs=[from_plain(EpochRecord, parse_json(line)) for line in content["epochs.jsonl"].splitlines()],
                recorded=load(content["recorded.safetensors"]) if "recorded.safetensors" in content else {},
                stage=name,
                reused=True,
            )

        return verified(self.root / name, read)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Wait until no other process computes or removes the stage. The kernel releases a killed process's lock."""
        wait, longest = WAIT
        with files.writing(self.root):
            while (lock := locks.hold(self.root / "locks" / f"{name}.lock")) is None:
                self.interrupt()
                turns.wait(wait)
                wait = min(1.5 * wait, longest)  # many that wait would keep the one that computes from computing
        try:
            yield
        finally:
            lock.release()


def sweep_up(root: Path) -> None:
    """Remove what killed processes left in a folder of stages; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        for old in root.glob("*.old"):
            shutil.rmtree(old, ignore_errors=True)
        for left in root.glob("*.tmp"):
            if lock := locks.hold(root / "locks" / f"{left.name.partition('.')[0]}.lock"):
                shutil.rmtree(left, ignore_errors=True)
                lock.release()


def _packed(stage: Stage, state: State) -> dict[str, bytes]:
    from safetensors.torch import save

    return {
        **({"recorded.safetensors": save(state.recorded)} if state.recorded else {}),
        "weights.safetensors": save(state.weights),
        "masks.safetensors": save(state.masks),
        "epochs.jsonl": "".join(json.dumps(plain(row)) + "\n" for row in state.epochs).encode(),
        "round.json": json.dumps(None if state.record is None else plain(state.record)).encode(),
        "stage.json": stage.canonical(),
    }
