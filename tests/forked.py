"""Command lines in processes that are forked from one which has imported torch already: seconds less for each."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

PATIENCE = float(os.environ.get("PRUNELAB_TEST_PATIENCE", "1"))  # a factor of all time limits, for a busy machine
SERVER = multiprocessing.get_context("forkserver")


def ready() -> None:
    """Start the server of this process, unless it runs."""
    SERVER.set_forkserver_preload(["preloaded"])
    with pytest.MonkeyPatch.context() as patch:  # the server finds `preloaded`; no command has tests/ on its path
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()


def process(target: object, *args: object) -> BaseProcess:
    """Start `target(*args)` in a process with torch and prunelab imported."""
    ready()
    started = SERVER.Process(target=target, args=args)
    started.start()
    return started


def call(target: object, *args: object, timeout: float = 120) -> None:
    """Call `target(*args)` in such a process; it fails the test if it raises an error."""
    started = process(target, *args)
    started.join(timeout * PATIENCE)
    assert started.exitcode == 0


class Command:
    """`python -m <module> <args>`, started; `first` is called in its process before all else.

    As module "-c" it is `python -c <args>`.
    """

    def __init__(
        self,
        *args: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        module: str = "prunelab",
        first: Callable[[], object] = int,
    ) -> None:
        self.args, self.streams = args, tempfile.TemporaryDirectory()
        whole = {**os.environ, **(env or {})}
        self.process = process(_command, module, args, str(cwd), whole, self.streams.name, first)

    def finish(self, timeout: float = 120) -> subprocess.CompletedProcess:
        """Wait for its end, as `subprocess.run` with captured text does."""
        self.process.join(timeout * PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise subprocess.TimeoutExpired(self.args, timeout)
        with self.streams as folder:
            said = [(Path(folder) / name).read_text() for name in ("out", "err")]
        return subprocess.CompletedProcess(self.args, self.process.exitcode, *said)


def run(*args: str, timeout: float = 120, **how) -> subprocess.CompletedProcess:
    """Run a `Command` to its end.

    A launcher with workers of its own gets a new process: some do not work below a fork server.
    """
    if any(arg.startswith(("hydra/launcher=", "hydra.launcher.")) and not arg.endswith("=basic") for arg in args):
        words, whole = [sys.executable, "-m", "prunelab", *args], {**os.environ, **(how.pop("env", None) or {})}
        return subprocess.run(words, env=whole, capture_output=True, text=True, timeout=timeout * PATIENCE, **how)
    return Command(*args, **how).finish(timeout)


def _command(
    module: str, args: Sequence[str], cwd: str, env: Mapping[str, str], streams: str, first: Callable[[], object]
) -> None:
    first()
    out, err = f"{streams}/out", f"{streams}/err"
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for path, stream in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = [module, *args]
    sys.path[:0] = [cwd]
    try:
        if module == "-c":
            exec(args[0], {"__name__": "__main__"})
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
