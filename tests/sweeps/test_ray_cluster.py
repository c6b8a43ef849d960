"""hydra/launcher=ray on a cluster of a head and two workers, one of which is killed during the sweep."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import finish, numbers, overrides, start

from prunelab import report

psutil = pytest.importorskip("psutil")
HERE = importlib.util.find_spec("hydra_plugins.hydra_ray_launcher")
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
JOBS = ("-m", "seed=0,1", "amount=0.2,0.6")
LONG = ("model=lenet_300_100", "train.epochs=40", "schedule.rounds=1", "baseline=false", "threads=1")


def node(*arguments: str) -> subprocess.Popen:
    """`ray start`, as a process whose end is the end of the node."""
    ray = str(Path(sys.executable).with_name("ray"))
    words = [ray, "start", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(words, env={**os.environ, **ENVIRONMENT}, start_new_session=True, **quiet)


def kill(process: subprocess.Popen) -> None:
    """Kill a node with all its processes: they end with their parent, which Ray sees to."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def up(address: str, count: int) -> bool:
    """Whether so many nodes are up."""
    code = f"import ray; ray.init({address!r}, log_to_driver=False); print(sum(x['Alive'] for x in ray.nodes()))"
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    return done.returncode == 0 and int(done.stdout) == count


def works(node: subprocess.Popen) -> bool:
    """Whether a node runs a job."""
    children = psutil.Process(node.pid).children(recursive=True)
    return any("_run_job" in " ".join(child.cmdline()) for child in children)


def until(condition: Callable[[], bool], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """The address of the head, and the two workers; each runs one job at a time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    short = Path("/tmp") / f"pl-ray-{port}"  # a socket's path has at most 107 characters
    nodes = [node("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={short}")]
    try:
        for count in (1, 2):  # one after the other: two that start at once on one machine get in each other's way
            until(functools.partial(up, address, count))
            nodes.append(node(f"--address={address}", "--num-cpus=1"))
        until(functools.partial(up, address, 3))
        yield address, nodes[1:]
    finally:
        for each in reversed(nodes):
            if each.poll() is None:
                kill(each)


@pytest.mark.skipif(not HERE, reason="Ray is not installed")
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_lost_node_costs_nothing_and_the_results_are_those_of_the_local_sweep(cluster, tmp_path):
    address, (lost, _) = cluster
    local = (*JOBS, "hydra/launcher=basic", f"hydra.sweep.dir={tmp_path}/local", *overrides(tmp_path / "a", *LONG))
    assert finish(start(*local, cwd=tmp_path), 600).returncode == 0
    launcher = ("hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}")
    words = (*JOBS, *launcher, f"hydra.sweep.dir={tmp_path}/ray", *overrides(tmp_path / "b", *LONG))
    process = start(*words, cwd=tmp_path, env={"OMP_NUM_THREADS": "1", **ENVIRONMENT})
    rows = (tmp_path / "ray").glob
    until(lambda: works(lost) and any(path.read_text().count("\n") > 2 for path in rows("*/epochs.csv")))
    kill(lost)
    result = finish(process, 900)
    assert result.returncode == 0, result.stderr
    assert "starting the jobs that are missing again" in result.stderr
    assert [job.status for job in report.read_sweep(tmp_path / "ray")] == ["completed"] * 4
    for number in range(4):
        one, other = (tmp_path / name / str(number) for name in ("local", "ray"))
        assert numbers(one) == numbers(other)
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
