"""Command lines in processes that are forked from one which has imported torch already: seconds less for each."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["preloaded"])


def process(target: object, *args: object) -> BaseProcess:
    """Start `target(*args)` in a process with torch and prunelab imported."""
    with pytest.MonkeyPatch.context() as patch:  # the server finds `preloaded`; no command has tests/ on its path
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        forkserver.ensure_running()
    started = SERVER.Process(target=target, args=args)
    started.start()
    return started


def run(
    *args: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 120, module: str = "prunelab"
) -> subprocess.CompletedProcess:
    """Run `python -m <module> <args>` to its end, as `subprocess.run` with captured text would.

    A launcher with workers of its own gets a new process: some do not work below a fork server.
    """
    whole = {**os.environ, **(env or {})}
    if any(arg.startswith(("hydra/launcher=", "hydra.launcher.")) and not arg.endswith("=basic") for arg in args):
        words = [sys.executable, "-m", module, *args]
        return subprocess.run(words, cwd=cwd, env=whole, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        started = process(_command, module, args, str(cwd), whole, str(out), str(err))
        started.join(timeout)
        if started.exitcode is None:
            started.kill()
            started.join()
            raise subprocess.TimeoutExpired(args, timeout)
        return subprocess.CompletedProcess(args, started.exitcode, out.read_text(), err.read_text())


def _command(module: str, args: Sequence[str], cwd: str, env: Mapping[str, str], out: str, err: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for path, stream in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = [module, *args]
    sys.path[:0] = [cwd]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
