"""Checkpoints of a stage that is being computed, and reading folders that may be damaged."""

import io
import logging
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from prunelab.errors import ConfigError, one_line
from prunelab.stages import files
from prunelab.stages.files import StorageError

T = TypeVar("T")
# What content may raise that is damaged, or that somebody else has written, while it is read or put to use.
UNREADABLE = (
    files.DamagedError,
    SafetensorError,
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
log = logging.getLogger(__name__)


@contextmanager
def fitting(what: object, wrong: str = "is damaged or does not fit") -> Iterator[None]:
    """Turn whatever unfit content raises into a ConfigError: `what`, what is `wrong` with it, and why."""
    try:
        yield
    except ConfigError:
        raise
    except UNREADABLE as error:
        raise ConfigError(f"{what}: {wrong}: {one_line(error)}") from error


class Work:
    """The checkpoints of a stage, in `stages/<name>.work`. Only the process that holds the stage's lock has one."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.stage = folder, stage
        files.drop_link(folder)

    def load(self) -> dict[str, Any] | None:
        """Return the last checkpoint of this stage that is undamaged; None if there is none."""
        found = (verified(folder, self._read) for folder in reversed(self._saved()))
        return next((checkpoint for checkpoint in found if checkpoint is not None), None)

    def save(self, checkpoint: Mapping[str, Any]) -> None:
        """Write a checkpoint, then remove the previous one."""
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
        return sorted((path for path in found if path.name.isdecimal()), key=lambda path: int(path.name))

    def _read(self, content: dict[str, bytes]) -> dict[str, Any]:
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of files that are no checkpoints; they are refused below
            checkpoint: dict[str, Any] = torch.load(io.BytesIO(content["checkpoint.pt"]), weights_only=True)
        if checkpoint["stage"] != self.stage:
            raise ValueError("it belongs to another stage")
        return checkpoint


def verified(folder: Path, read: Callable[[dict[str, bytes]], T]) -> T | None:
    """Return `read` of a folder's files; None if there is no folder, or a damaged one, which is set aside.

    Raises StorageError if the folder cannot be read.
    """
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
