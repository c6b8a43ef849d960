"""Each launcher by its one line: one thread a job, nothing lost where a worker is killed. Ray where it is installed."""

import importlib.util
import os

import pytest
from conftest import KILLS_ONCE, overrides
from omegaconf import OmegaConf

from prunelab import report
from prunelab.sweeps import launchers
from prunelab.sweeps.pool import WorkerKilledError

HERE = {name: importlib.util.find_spec(f"hydra_plugins.hydra_{name}_launcher") for name in ("submitit", "ray")}
DEADLY = f"""{KILLS_ONCE}
def always(weight):
    os.kill(os.getpid(), 9)

def fine(weight):
    return weight.abs()
"""


def sweep_of(folder):
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    return report.read_sweep(sweep)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["pool", "joblib", "submitit_local", "ray"])
def test_one_line_starts_a_sweep_with_one_thread_a_job(launcher, cli, tmp_path, monkeypatch):
    if launcher not in ("pool", "joblib") and not HERE[launcher.partition("_")[0]]:
        pytest.skip(f"{launcher} is not installed; scripts/launchers.py shows it")
    monkeypatch.delenv("OMP_NUM_THREADS")
    result = cli("-m", f"hydra/launcher={launcher}", "seed=0,1,2", *overrides(tmp_path), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert launcher == "ray" or not result.stderr  # Ray says that it asks for a token
    jobs = sweep_of(tmp_path)
    assert [(job.status, job.summary["threads"]) for job in jobs] == [("completed", 1)] * 3
    lines = [line for line in result.stdout.splitlines() if " of 3 done: seed=" in line]
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert "left" not in lines[-1]


@pytest.mark.skipif(not HERE["submitit"], reason="submitit is not installed")
def test_slurm_composes(cli, tmp_path):
    more = ("hydra.launcher.partition=gpu", "--cfg", "hydra", "-p", "hydra.launcher")
    result = cli("hydra/launcher=submitit_slurm", *more, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "submitit_launcher.SlurmLauncher" in result.stdout
    assert "partition: gpu" in result.stdout


def run_deadly(cli, folder, methods):
    (folder / "deadly.py").write_text(DEADLY)
    how = ["-m", "hydra/launcher=submitit_local", "strategy=custom", "trusted=[deadly]", f"strategy.method={methods}"]
    return cli(*how, *overrides(folder), cwd=folder, timeout=280)


@pytest.mark.skipif(not HERE["submitit"], reason="submitit is not installed")
@pytest.mark.slow
def test_a_worker_of_submitit_that_is_killed_costs_nothing(cli, tmp_path):
    result = run_deadly(cli, tmp_path, "deadly.once,deadly.fine")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("a worker was killed") == 1
    assert [job.status for job in sweep_of(tmp_path)] == ["completed", "completed"]


@pytest.mark.slow
@pytest.mark.skipif(not HERE["submitit"], reason="submitit is not installed")
def test_a_job_that_always_kills_its_worker_costs_the_others_nothing(cli, tmp_path):
    result = run_deadly(cli, tmp_path, "deadly.always,deadly.fine,deadly.fine")
    assert result.returncode == 1
    assert [job.status for job in sweep_of(tmp_path)] == ["unfinished", "completed", "completed"]


def config(name, target=None, given=(), n_jobs=None):
    """As much of a sweep's config as `prepare` reads. The target is a plugin that is always there."""
    basic = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    ray = {"init": {"address": None}, "remote": {}}
    hydra = {
        "launcher": {"_target_": target or basic, "timeout_min": 60, "n_jobs": n_jobs, "ray": ray},
        "runtime": {"choices": {"hydra/launcher": name}},
        "overrides": {"hydra": list(given)},
        "sweeper": {"max_batch_size": None},
    }
    return OmegaConf.create({"hydra": hydra})


@pytest.fixture
def environment(monkeypatch):
    """The environment, put back afterwards; no thread count in it."""
    monkeypatch.setattr(os, "environ", {})
    return os.environ


@pytest.mark.parametrize(("name", "before", "after"), [("basic", {}, None), ("pool", {}, "1"), ("pool", 3, "3")])
def test_workers_inherit_one_thread_unless_the_user_said_how_many(name, before, after, environment):
    if before:
        environment["OMP_NUM_THREADS"] = str(before)
    launchers.prepare(config(name))
    assert environment.get("OMP_NUM_THREADS") == after


def test_submitit_has_no_hour_and_no_more_jobs_at_once_than_cores(environment):
    ours = config("submitit_local")
    launchers.prepare(ours)
    assert ours.hydra.launcher.timeout_min > 24 * 60
    assert ours.hydra.sweeper.max_batch_size == os.cpu_count()
    theirs = config("submitit_local", given=["hydra.launcher.timeout_min=60"])
    launchers.prepare(theirs)
    assert theirs.hydra.launcher.timeout_min == 60


def test_ray_stays_on_this_machine_unless_told_of_a_cluster(environment):
    ours = config("ray")
    launchers.prepare(ours)
    assert environment["RAY_USAGE_STATS_ENABLED"] == environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert ours.hydra.launcher.ray.init.include_dashboard is False
    environment.clear()
    theirs = config("ray", given=["hydra.launcher.ray.init.address=ray://head:10001"])
    theirs.outputs = "/shared"
    launchers.prepare(theirs)
    assert "include_dashboard" not in theirs.hydra.launcher.ray.init
    assert theirs.hydra.launcher.ray.init.object_store_memory is None  # else Hydra sets one, which a cluster refuses
    assert theirs.hydra.launcher.ray.remote.max_retries == 0
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in environment


def test_a_cluster_needs_a_folder_that_all_nodes_share(environment):
    theirs = config("ray", given=["hydra.launcher.ray.init.address=auto"])
    theirs.outputs = "outputs"
    with pytest.raises(SystemExit, match="outputs=outputs: must be the absolute path of a folder that all"):
        launchers.prepare(theirs)


@pytest.mark.parametrize("given", [0, -1, 2.5, "wide", True])
def test_a_width_that_is_none_is_refused(given, environment):
    asked = config("batched", "hydra_plugins.prunelab_batched.BatchedLauncher")
    asked.hydra.launcher.width = given
    with pytest.raises(SystemExit, match=f"hydra.launcher.width={given}: must be null"):
        launchers.prepare(asked)


def test_a_launcher_that_is_not_there_is_one_line():
    with pytest.raises(SystemExit, match="hydra/launcher=mine: is not installed"):
        launchers.prepare(config("mine", "hydra_plugins.mine.Launcher"))


@pytest.mark.parametrize(("given", "used"), [(None, None), (-1, None), (3, 3)])
def test_joblib_is_another_name_of_the_pool(given, used, environment):
    asked = config("joblib", "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", n_jobs=given)
    launchers.prepare(asked)
    assert asked.hydra.launcher == {"_target_": launchers.POOL, "n_jobs": used}


@pytest.mark.parametrize("given", [0, -2, 1.5, "many", True])
def test_a_number_of_jobs_that_is_none_is_refused(given, environment):
    with pytest.raises(SystemExit, match=f"hydra.launcher.n_jobs={given}: must be null"):
        launchers.prepare(config("pool", n_jobs=given))


def test_only_the_end_of_a_worker_counts_as_one():
    assert launchers.killed(WorkerKilledError())
    assert launchers.killed(type("UncompletedJobError", (Exception,), {})())  # submitit's
    assert not launchers.killed(ValueError())
