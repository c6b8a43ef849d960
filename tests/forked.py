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
from pathlib import Path

PRELOADED = [
    "torch",
    "torch.utils.tensorboard",
    "prunelab.experiment.run",
    "prunelab.cli.run",
    "prunelab.config.resolve",
]
PATIENCE = float(os.environ.get("PRUNELAB_TEST_PATIENCE", "1"))  # a factor of all time limits, for a busy machine
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(PRELOADED)


def run(
    *args: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess:
    """Run `python -m prunelab <args>` to its end, as `subprocess.run` with captured text would.

    A launcher with workers of its own gets a new process: some do not work below a fork server.
    """
    whole, timeout = {**os.environ, **(env or {})}, timeout * PATIENCE
    if any(arg.startswith(("hydra/launcher=", "hydra.launcher.")) and not arg.endswith("=basic") for arg in args):
        words = [sys.executable, "-m", "prunelab", *args]
        return subprocess.run(words, cwd=cwd, env=whole, capture_output=True, text=True, timeout=timeout)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = SERVER.Process(target=_command, args=(args, str(cwd), whole, str(out), str(err)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(args, timeout)
        return subprocess.CompletedProcess(args, process.exitcode, out.read_text(), err.read_text())


def _command(args: Sequence[str], cwd: str, env: Mapping[str, str], out: str, err: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for path, stream in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = ["prunelab", *args]
    sys.path[:0] = [cwd]
    try:
        runpy.run_module("prunelab", run_name="__main__", alter_sys=True)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
