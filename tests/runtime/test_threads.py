"""The number of CPU threads: what may be asked for, and what a config from a larger machine gets."""

import os

import pytest
import torch

from prunelab.errors import ConfigError
from prunelab.exports import finished_run
from prunelab.exports.network_files import Network
from prunelab.runtime import device


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS")


@pytest.mark.usefixtures("two_cores")
def test_one_thread_by_default_on_any_machine_so_that_runs_and_sweeps_share_stages(monkeypatch):
    assert [device.threads(wanted) for wanted in (1, 2, None)] == [1, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert device.threads(None) == 2


@pytest.mark.usefixtures("two_cores")
def test_more_threads_than_cores_are_refused():
    for wanted in (3, 64, 10**6):
        with pytest.raises(ConfigError, match=rf"^threads={wanted}: must be at most 2, "):
            device.threads(wanted)
        with pytest.raises(ConfigError, match="threads="):
            device.prepare("cpu", wanted)


@pytest.mark.usefixtures("two_cores")
def test_a_run_of_a_larger_machine_gets_the_cores_that_there_are():
    configs = ({"threads": 64}, {"threads": 1}, {"threads": None}, {}, None)
    networks = [Network(torch.nn.Identity(), config=config) for config in configs]
    assert [finished_run.threads(network) for network in networks] == [None, 1, None, None, None]


def test_a_run_with_more_threads_than_cores_is_one_line(cli, tmp_path):
    done = cli("threads=100000", "data.limit=300", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("prunelab: threads=100000: must be at most ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("summary.json"))
