"""The pool of a sweep: what its processes do where one ends, fails, is killed or has to stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
from conftest import overrides, start
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from prunelab import report
from prunelab.config import compose as composing
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.sweeps import pool as pools
from prunelab.sweeps.pool import Pool, WorkerKilledError

SWEEP = [["seed=0"], ["seed=1"], ["seed=2"]]


def note(what: str) -> None:
    """Write a file into the job's folder, with the number of the process in it."""
    (Path(HydraConfig.get().runtime.output_dir) / what).write_text(str(os.getpid()))


def works(settings: DictConfig) -> None:
    """The task of a sweep, as an experiment is one."""
    note("began")
    if settings.seed == 0:
        time.sleep(0.3)  # its neighbours end first
    note("ended")


def raises_in_job_1(settings: DictConfig) -> None:
    if settings.seed == 1:
        raise ValueError("of job 1")
    works(settings)


def kills_job_1(settings: DictConfig) -> None:
    if settings.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    works(settings)


def waits(settings: DictConfig) -> None:
    note("began")
    time.sleep(60)


@pytest.fixture
def pool(tmp_path) -> Iterator:
    """`pool(task, n_jobs)`: a pool whose jobs have their folders in `tmp_path`, forked from the server of all tests."""
    forked.ready()
    with composing.own_hydra() as loader:
        settings = [f"hydra.sweep.dir={tmp_path}", "device=cpu"]
        config = loader.load_configuration("config", settings, run_mode=RunMode.MULTIRUN)
        yield lambda task, n_jobs=2: Pool(HydraContext(loader, Callbacks()), task, config, n_jobs)


def files(folder: Path, name: str) -> list[int]:
    """The numbers of the jobs that have left a file."""
    return sorted(int(path.parent.name) for path in folder.glob(f"*/{name}"))


def test_every_job_runs_in_a_process_of_its_own(pool, tmp_path):
    pool(works).run(SWEEP, 4)
    assert files(tmp_path, "ended") == [4, 5, 6]
    assert len({path.read_text() for path in tmp_path.glob("*/ended")} - {str(os.getpid())}) == 3


def test_an_error_ends_its_own_job_only(pool, tmp_path):
    pool(raises_in_job_1).run(SWEEP, 0)
    assert files(tmp_path, "ended") == [0, 2]


def test_a_killed_process_ends_its_own_job_only_and_is_reported(pool, tmp_path):
    with pytest.raises(WorkerKilledError):
        pool(kills_job_1).run(SWEEP, 0)
    assert files(tmp_path, "ended") == [0, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_processes(number, pool, tmp_path):
    def signal_when_two_run() -> None:
        while len(files(tmp_path, "began")) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=signal_when_two_run, daemon=True).start()
    with pytest.raises(InterruptedRun) as caught:
        pool(waits).run(SWEEP, 0)
    assert caught.value.exit_status == 128 + number
    assert files(tmp_path, "began") == [0, 1]  # the third did not start
    for path in tmp_path.glob("*/began"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


@pytest.mark.parametrize(
    ("cores", "memory", "threads", "size"),
    [(8, 2**40, None, 8), (8, 2**30, None, 2), (8, 0, None, 1), (8, 2**40, 2, 4), (2, 2**40, 2, 1)],
)
def test_as_many_jobs_at_once_as_cores_and_memory_allow(cores, memory, threads, size, pool, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(pools.device, "cores", lambda: cores)
    monkeypatch.setattr(pools, "available_memory", lambda: memory)
    made = pool(works, None)
    made.config.threads = threads
    assert made.size() == size


@pytest.mark.parametrize(("device", "gpu", "size"), [("auto", True, 1), ("cpu", True, 8), ("auto", False, 8)])
def test_a_gpu_has_one_job_at_once(device, gpu, size, pool, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(pools.device, "cores", lambda: 8)
    monkeypatch.setattr(Pool, "_has_gpu", lambda self: gpu)
    made = pool(works, None)
    made.config.device = device
    assert made.size() == size


def test_the_memory_that_is_left_is_less_than_the_machine_has():
    psutil = pytest.importorskip("psutil")
    assert 0 < pools.available_memory() <= psutil.virtual_memory().total


@pytest.mark.slow
def test_a_job_stops_when_the_process_of_the_sweep_is_gone(tmp_path):
    process = start("-m", "seed=0,1", *overrides(tmp_path, "train.epochs=500"), cwd=tmp_path)
    try:
        while (
            not (found := list(tmp_path.glob("outputs/sweeps/*/0/epochs.csv"))) or found[0].read_text().count("\n") < 2
        ):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
    finally:
        process.kill()
    process.communicate(timeout=60)  # it returns when nobody has the output open any more
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert "interrupted" in {job.status for job in report.read_sweep(sweep)}
