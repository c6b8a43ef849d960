"""Exceptions in a user's code, in one line: the config key, the exception's class, its message, the user's own line."""

from __future__ import annotations

import inspect
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from prunelab.errors import ConfigError, one_line
from prunelab.runtime.interrupt import InterruptedRun

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle

OURS = str(Path(__file__).parents[1])
STANDARD = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))
INSTALLED = ("site-packages", "dist-packages")
LIBRARIES = ("prunelab", "torch", "torchvision", "builtins")  # what these packages define is not the user's
LONGEST = 240  # characters of a message; some of torch's have thousands
Frames = list[tuple[FrameType, int]]  # with the line that runs, from the outermost one on


class UserCodeError(ConfigError):
    """An exception that a user's model, data, criterion, pruning method or callback raised; it is the cause."""


@dataclass(frozen=True)
class Part:
    """A part of an experiment that is a user's.

    Attributes:
        key: for messages, such as `model._target_=mine.Net`.
        target: the class or function, or the live object.
        model: whether it is the network, or makes it.
    """

    key: str
    target: Any
    model: bool = False

    def owns(self, frame: FrameType) -> bool:
        """Return whether a frame runs this class, function or object itself."""
        kind = inspect.unwrap(self.target) if callable(self.target) else self.target
        kind = kind if inspect.isclass(kind) or inspect.isroutine(kind) else type(kind)
        kinds = [k for k in (inspect.getmro(kind) if inspect.isclass(kind) else (kind,)) if is_users(k)]
        name = f"{frame.f_globals.get('__name__')}.{getattr(frame.f_code, 'co_qualname', '')}."  # from Python 3.11 on
        owned = any(name.startswith(f"{k.__module__}.{getattr(k, '__qualname__', None)}.") for k in kinds)
        functions = [x for k in kinds for x in (vars(k).values() if inspect.isclass(k) else (k,))]
        return owned or any(frame.f_code is getattr(x, "__code__", None) for x in functions)


def is_users(target: object) -> bool:
    """Return whether a class or function comes from neither prunelab nor torch nor torchvision."""
    module = str(getattr(inspect.unwrap(target) if callable(target) else target, "__module__", ""))
    return module.partition(".")[0] not in LIBRARIES


@contextmanager
def user_code(parts: Iterable[Part]) -> Iterator[None]:
    """Turn an exception in one of a user's parts into a `UserCodeError` that names its key.

    An exception counts as the user's if a line of the user's own files or a module of the user's network was running.
    With no such part, or outside of them, it is raised as it is. So are a ConfigError and Ctrl-C.
    """
    try:
        yield
    except (ConfigError, InterruptedRun, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # sys.exit and asyncio's CancelledError, too
        part = _at_fault(error, list(parts))
        if part is None:
            raise
        raise UserCodeError(f"{part.key}: {describe(error)}") from error


@contextmanager
def explained(key: str, what: str, model: nn.Module | None = None, only: type[Exception] = Exception) -> Iterator[None]:
    """Turn an error into a ConfigError that names the key and what failed.

    Args:
        what: such as `cannot score this model`.
        model: the network; the message names its module, or that of a copy, which was running.
        only: the class of errors.
    """
    with running(model) as modules:
        try:
            yield
        except ConfigError as error:
            if "=" in str(error).partition(":")[0]:
                raise  # the message names its key
            raise ConfigError(f"{key}: {what}: {error}") from error
        except only as error:
            raise ConfigError(f"{key}: {what}: {describe(error, modules)}") from error


@contextmanager
def running(model: nn.Module | None) -> Iterator[list[str]]:
    """Keep a list of the network's modules that are running, as they are named in messages, the innermost last."""
    modules: list[str] = []
    with ExitStack() as hooks:
        for name, module in () if model is None else model.named_modules():
            for handle in _follow(module, f"{name or 'its forward'} ({type(module).__name__})", modules):
                hooks.enter_context(handle)
        yield modules


def _follow(module: nn.Module, name: str, modules: list[str]) -> tuple[RemovableHandle, RemovableHandle]:
    def begin(*_: object) -> None:
        modules.append(name)

    def end(*_: object) -> None:
        while modules and modules.pop() != name:  # modules inside of it that raised what the network caught
            pass

    return module.register_forward_pre_hook(begin), module.register_forward_hook(end)


def describe(error: BaseException, modules: Sequence[str] = ()) -> str:
    """Return the exception's class and message, the module of the network that raised it, and the user's line.

    Args:
        modules: those that were running; see `running`.
    """
    frames = _frames(error)
    within = f" in {modules[-1]}" if modules else ""
    lines = [f"{_shown(frame.f_code.co_filename)}:{line}" for frame, line in frames if _is_users(frame)]
    if isinstance(error, SyntaxError) and error.filename:
        lines = [f"{_shown(error.filename)}:{error.lineno}"]
    said = one_line(error)
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]}…"
    said = "" if said == type(error).__name__ else f": {said}"
    return f"{type(error).__name__}{within}{said}" + (f" ({lines[-1]})" if lines else "")


def raised_in(error: BaseException, kind: type) -> bool:
    """Return whether code in the folder of this class was running when the exception was raised."""
    folder = str(Path(inspect.getfile(kind)).parent)
    return any(frame.f_code.co_filename.startswith(folder) for frame, _ in _frames(error))


def _at_fault(error: BaseException, parts: list[Part]) -> Part | None:
    """Return the part whose code was running, the innermost one if there are several; None if there was none."""
    frames = [frame for frame, _ in _frames(error)]
    for frame in reversed(frames):
        for part in parts:
            if part.owns(frame):
                return part
    models = [part for part in parts if part.model]
    if models and _calls_module(frames):
        return models[0]
    mine = {str(frame.f_globals.get("__name__")) for frame in frames if _is_users(frame)}
    near = [part for part in parts if getattr(part.target, "__module__", None) in mine] or parts
    return near[0] if mine and near else None


def _calls_module(frames: list[FrameType]) -> bool:
    """Return whether the innermost of prunelab's own frames, or one further in, runs a module forward or backward."""
    from torch import autograd, nn

    last = max((i for i, frame in enumerate(frames) if _is_ours(frame)), default=-1)
    files = {inspect.getfile(nn.Module), inspect.getfile(autograd)}
    return any(frame.f_code.co_filename in files for frame in frames[last + 1 :])


def _frames(error: BaseException) -> Frames:
    found = list(traceback.walk_tb(error.__traceback__))
    hidden = error.__cause__  # a StopIteration ends a generator as a RuntimeError without its frames (PEP 479)
    return found + _frames(hidden) if isinstance(hidden, StopIteration) else found


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(OURS)


def _is_users(frame: FrameType) -> bool:
    """Return whether a frame is in a file that is neither prunelab's, nor Python's, nor an installed package's."""
    file = frame.f_code.co_filename
    if _is_ours(frame) or any(f"/{name}/" in file.replace("\\", "/") for name in INSTALLED):
        return False
    return frame.f_globals.get("__name__") == "__main__" or not file.startswith(("<", *STANDARD))


def _shown(file: str) -> str:
    """Return a file's path, relative to the working folder if it lies in it."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file
