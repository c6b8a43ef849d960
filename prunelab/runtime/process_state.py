"""A context that leaves the process as it was: settings of torch, generators, environment, handlers, current folder."""

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from prunelab.runtime.seeding import generators_kept

Setting = tuple[Callable[[], Any], Callable[[Any], object]]  # how a setting is read, and how it is set


@contextmanager
def unchanged() -> Iterator[None]:
    """Restore the state of this process at the end of the context, also after an exception.

    Restored are threads, determinism, precision, attention kernels and default dtype of torch; the generators of torch,
    NumPy and Python; environment variables, current folder, `sys.path`, `sys.argv`; handlers and levels of logging,
    handlers of signals, filters of warnings.
    """
    with ExitStack() as stack:
        stack.callback(settings_now())
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(generators_kept())
        yield


def settings_now() -> Callable[[], None]:
    """Return a function that puts back all settings, but for generators and filters of warnings, as they are now."""
    found = [(read, write, read()) for read, write in _settings()]

    def restore() -> None:
        for read, write, before in reversed(found):
            if read() != before:
                write(before)

    return restore


def _settings() -> list[Setting]:
    backends: Any = torch.backends  # its parts have no types
    cuda, cudnn = backends.cuda, backends.cudnn
    found: list[Setting] = [
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.is_grad_enabled, torch.set_grad_enabled),
        (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
        (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
        (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
        (lambda: dict(os.environ), _set_environment),
        (_folder, os.chdir),
        (lambda: list(sys.path), lambda path: sys.path.__setitem__(slice(None), path)),
        (lambda: list(sys.argv), lambda words: sys.argv.__setitem__(slice(None), words)),
        *_logging(),
        _attribute(torch.utils.deterministic, "fill_uninitialized_memory"),
        *(_attribute(cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
        *(_attribute(part, "fp32_precision") for part in (cuda.matmul, cudnn.conv, cudnn.rnn)),
        # The older names of the same, which set several of them, and therefore are restored before them.
        _if_readable(lambda: cudnn.allow_tf32, functools.partial(setattr, cudnn, "allow_tf32")),
        _if_readable(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    ]
    if threading.current_thread() is threading.main_thread():  # the only one in which Python sets them
        found += [_signal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return found


def _if_readable(read: Callable[[], Any], write: Callable[[Any], object]) -> Setting:
    """Return a setting that torch refuses to read where the newer ones say something else; such a one is left alone."""

    def value() -> Any:
        with contextlib.suppress(RuntimeError):
            return read()
        return None

    return value, lambda found: found is not None and write(found)


def _attribute(owner: Any, name: str) -> Setting:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def _signal(number: int) -> Setting:
    return lambda: signal.getsignal(number), lambda handler: handler is not None and signal.signal(number, handler)


def _folder() -> Path:
    """Return the current folder; `/` if that folder was removed, since no process can go back to it."""
    with contextlib.suppress(OSError):
        return Path.cwd()
    return Path("/")


def _set_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before:
        del os.environ[name]
    os.environ.update(before)


def _logging() -> Iterator[Setting]:
    yield lambda: logging.root.manager.disable, logging.disable
    logging.getLogger("prunelab")  # which may not exist yet: a logger that is made later is not restored
    known = logging.root.manager.loggerDict.values()
    for logger in [logging.root, *(one for one in known if isinstance(one, logging.Logger))]:
        yield functools.partial(_logger, logger), functools.partial(_set_logger, logger)


def _logger(logger: logging.Logger) -> tuple[Any, ...]:
    return logger.level, logger.propagate, logger.disabled, list(logger.handlers), list(logger.filters)


def _set_logger(logger: logging.Logger, found: tuple[Any, ...]) -> None:
    level, logger.propagate, logger.disabled, logger.handlers, logger.filters = found
    logger.setLevel(level)
