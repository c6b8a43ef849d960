"""What all tests share: one thread, one cache of the data, an experiment of seconds, the command line."""

from __future__ import annotations

import copy
import csv
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from forked import PATIENCE

import prunelab

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from prunelab.experiment.result import Result

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
for name in ("HYDRA_FULL_ERROR", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS"):
    os.environ.pop(name, None)
# Other folders and processes find the prunelab that is tested here, installed or not.
ABOVE = str(Path(prunelab.__file__).resolve().parent.parent)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ABOVE, os.environ.get("PYTHONPATH")]))

# A module of the user's own: its score kills the worker of the first job that calls it, once.
KILLS_ONCE = """
import os, pathlib

def once(weight):
    flag = pathlib.Path(__file__).with_name("killed")
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), 9)
    return weight.abs()
"""
# On a machine with a GPU too, the figures are those of the CPU; tests with the marker `gpu` ask for the GPU.
SECONDS = ("device=cpu", "data.limit=300", "train.epochs=1", "finetune.epochs=1", "latency=false")
BASIC = "hydra/launcher=basic"  # quicker here than the pool, whose server imports torch anew


def pytest_configure(config: pytest.Config) -> None:
    if "PRUNELAB_CACHE" not in os.environ and hasattr(config, "cache"):
        os.environ["PRUNELAB_CACHE"] = str(config.cache.mkdir("prunelab"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


def overrides(folder: Path, *more: str) -> list[str]:
    """An experiment of seconds that leaves everything in `folder`."""
    return [*SECONDS, f"outputs={folder / 'outputs'}", *more]


@functools.cache
def _composed(*more: str) -> DictConfig:
    return prunelab.compose(*SECONDS, *more)


def composed(folder: Path, *more: str) -> DictConfig:
    """Compose `overrides(folder, *more)`, in a process once for all folders: Hydra takes as long as an epoch.

    There is one round unless `more` chooses a schedule.
    """
    rounds = [] if any(item.startswith("schedule") for item in more) else ["schedule.rounds=1"]
    config = copy.deepcopy(_composed(*more, *rounds))
    config.outputs = str(folder / "outputs")
    return config


def run(folder: Path, *more: str) -> Result:
    """Run the experiment of `composed(folder, *more)`."""
    return prunelab.run(composed(folder, *more))


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    return overrides(tmp_path)


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(path.read_text().splitlines()))


def numbers(run: Path) -> list[dict[str, str]]:
    """`rounds.csv` without what tells one run from another."""
    other = ("seconds", "stage", "reused")
    return [{key: value for key, value in row.items() if key not in other} for row in table(run / "rounds.csv")]


def start(*args: str, cwd: Path, env: Mapping[str, str] | None = None, flags: tuple[str, ...] = ()) -> subprocess.Popen:
    """`python <flags> -m prunelab <args>`, started."""
    return subprocess.Popen(
        [sys.executable, *flags, "-m", "prunelab", *args],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, timeout: float = 120) -> subprocess.CompletedProcess:
    """Waits for what `start` started."""
    try:
        out, err = process.communicate(timeout=timeout * PATIENCE)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@contextmanager
def broken_off(batch: int) -> Iterator[None]:
    """In it, a run stops before its batch `batch` (from 0), as after SIGTERM; one that does not fails the test."""
    from prunelab.experiment import run as experiment
    from prunelab.runtime.interrupt import InterruptedRun

    @contextmanager
    def stopping() -> Iterator[Callable[[], None]]:
        calls = iter(range(batch))

        def check() -> None:
            if next(calls, None) is None:
                raise InterruptedRun(signal.SIGTERM)

        yield check

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedRun):  # noqa: PT012
        patch.setattr(experiment, "graceful", stopping)
        yield


def undisturbed_and_resumed(run: Callable[[Path], Result], folder: Path, batch: int) -> tuple[Result, Result]:
    """What `run` gives in a folder of its own, and what it gives where it was broken off before that batch."""
    undisturbed = run(folder / "undisturbed")
    with broken_off(batch):
        run(folder / "resumed")
    return undisturbed, run(folder / "resumed")


@pytest.fixture(scope="session")
def cli() -> Callable[..., subprocess.CompletedProcess]:
    """`cli("amount=1", cwd=folder)` runs `python -m prunelab amount=1` to its end; `flags` are Python's own."""
    import forked

    def run(*args: str, timeout: float = 120, **how) -> subprocess.CompletedProcess:
        return finish(start(*args, **how), timeout) if "flags" in how else forked.run(*args, timeout=timeout, **how)

    return run


@pytest.fixture(autouse=True, scope="session")
def _quick() -> Iterator[None]:
    """Leave out what takes most of a run's time and what a few tests are about.

    Beside the changes of quick_runs.py, runs in this process prove their files in it, and draw no picture of their
    accuracy, as without matplotlib. The commands that tests start share one server for their proofs.
    """
    import hydra
    import quick_hydra
    import quick_runs

    import prunelab.experiment.run  # noqa: F401  before a test replaces a function that it would import
    from prunelab.experiment import proof
    from prunelab.runtime import fresh_process
    from prunelab.tracking import tensorboard

    fresh_process.share()
    quick_runs.collect_less_garbage()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hydra, "compose", quick_hydra.compose)
        patch.setattr(quick_hydra.FileConfigSource, "load_config", quick_hydra.load_config)
        patch.setattr(quick_hydra.defaults_list, "_create_interpolation_map", quick_hydra.choices_for_interpolation)
        for change in quick_runs.changes():
            patch.setattr(*change)
        here = SimpleNamespace(call=lambda function, *given: function(*given), expect=lambda *modules: None)
        patch.setattr(proof, "fresh_process", here)
        patch.setattr(tensorboard, "accuracy_figure", lambda series, dense: None)
        yield


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess]:
    """`python("print(1)", cwd=folder)` runs code in a process of its own."""

    def run(code: str, *, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture(scope="session")
def warm_python() -> Callable[..., subprocess.CompletedProcess]:
    """The same, seconds quicker, for code that does not mind what tests/preloaded.py has imported."""
    import forked

    return functools.partial(forked.run, module="-c")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> object:
    """One finished run for all tests of exports; nobody changes its folder."""
    from export_networks import config

    outputs = tmp_path_factory.mktemp("exports")
    return prunelab.run(config(outputs, "model=lenet_300_100", "strategy=l1"), outputs / "run")
