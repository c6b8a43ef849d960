"""Processes of the pool killed: the sweep goes on, and ends with the table of an undisturbed one."""

import contextlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import PATIENCE
from harness import is_full, record, result, settings, sizes

from prunelab import report


def command(outputs, *more):
    return [
        sys.executable,
        "-m",
        "prunelab",
        "-m",
        "hydra.launcher.n_jobs=2",
        *settings(outputs, "schedule.rounds=2"),
        *more,
    ]


def children(parent):
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            found += map(int, task.read_text().split())
    return found


def workers(parent):
    """The pool's processes: children of its server, which is a child of the sweep."""
    return [child for server in children(parent) for child in children(server)]


def final_table(folder):
    """Strategy, seed, status and figures of each job; the output folders differ."""
    jobs = report.read_sweep(folder)
    finals = [job.summary["final"] for job in jobs]
    figures = [(final["test_accuracy"], final["nonzero"]) for final in finals]
    return [(job.overrides[-2:], job.status, figure) for job, figure in zip(jobs, figures, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", sizes(6, 30))
def test_killed_workers_lose_nothing(jobs, tmp_path, request):
    draw = random.Random(jobs)
    wanted, pause = (10, (3, 6)) if is_full(request) else (2, (2.5, 3.5))  # the quick one is over in five seconds
    seeds = f"seed={','.join(map(str, range(jobs // 2)))}"
    sweep = ["strategy=l1,global", seeds]
    reference = tmp_path / "reference"
    subprocess.run(command(tmp_path / "other", *sweep, f"hydra.sweep.dir={reference}"), check=True, capture_output=True)

    process = subprocess.Popen(
        command(tmp_path / "outputs", *sweep, f"hydra.sweep.dir={tmp_path / 'sweep'}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    killed = 0
    while killed < wanted and process.poll() is None:
        time.sleep(draw.uniform(*pause))
        if found := workers(process.pid):
            os.kill(draw.choice(found), signal.SIGKILL)
            killed += 1
    output, _ = process.communicate(timeout=1200 * PATIENCE)
    assert process.returncode == 0, output
    assert "WorkerKilledError" not in output  # what the second start has mended
    assert killed >= min(wanted, 1)
    assert final_table(tmp_path / "sweep") == final_table(reference)
    if is_full(request):
        record("sweeps", jobs=jobs, killed=killed, missing=0)


def epochs(sweep):
    """The number of epochs that the jobs of a sweep have written."""
    tables = [path.read_text().count("\n") - 1 for path in sweep.glob("*/epochs.csv")]
    return sum(count for count in tables if count > 0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("launcher", ["basic", "pool", "submitit_local", "ray"])
def test_a_sweep_killed_at_random_under_any_launcher_ends_as_an_undisturbed_one(launcher, tmp_path):
    """Killed four times, each time started again at once, while workers of the killed command may still be there."""
    package = f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher"
    if launcher in ("submitit_local", "ray") and importlib.util.find_spec(package) is None:
        pytest.skip(f"{launcher} is not installed")

    def words(name, launcher):
        few = [f"hydra/launcher={launcher}", "seed=0,1", "amount=0.2,0.5", f"hydra.sweep.dir={tmp_path / name}"]
        long = [*settings(tmp_path / f"outputs-{name}", "schedule.rounds=3"), "data.limit=2000"]
        return [sys.executable, "-m", "prunelab", "-m", *few, *long]

    subprocess.run(words("undisturbed", "basic"), check=True, capture_output=True)
    draw, sweep = random.Random(launcher), tmp_path / "killed"
    for least in (1, 4, 7, 10):  # of 16 epochs in all, less those that are shared
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(words("killed", launcher), **quiet)
        while epochs(sweep) < least and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.5))
        process.kill()
        process.wait()
    done = [path for path in sweep.glob("*/summary.json") if '"completed"' in path.read_text()]
    written = {path: path.stat().st_mtime_ns for path in done}
    again = subprocess.run(words("killed", launcher), capture_output=True, text=True, timeout=600 * PATIENCE)
    assert again.returncode == 0, again.stdout + again.stderr
    for number in range(4):
        assert result(sweep / str(number)) == result(tmp_path / "undisturbed" / str(number))
    assert written == {path: path.stat().st_mtime_ns for path in done}  # what was complete is not written again


DEADLY = """
import os, pathlib

def score(weight):
    os.kill(os.getpid(), 9)

def once(weight):
    flag = pathlib.Path(__file__).with_name("killed")
    if not flag.exists():
        flag.touch()
        score(weight)
    return weight.abs()

def fine(weight):
    return weight.abs()
"""


def run_deadly(tmp_path, methods, *more):
    """A sweep over score functions of a module that can kill its worker."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    jobs = ["strategy=custom", "trusted=[deadly]", f"strategy.method={methods}", *more]
    how = command(tmp_path / "outputs", *jobs, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    how = [part for part in how if not part.startswith("schedule.rounds")]  # custom has one
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(how, capture_output=True, text=True, env=environment)


def statuses(tmp_path):
    return [job.status for job in report.read_sweep(tmp_path / "sweep")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ("deadly.score", ["unfinished"]),
        ("deadly.score,deadly.fine", ["unfinished", "completed"]),
    ],
)
def test_a_job_that_always_kills_its_worker_is_given_up_and_the_others_complete(methods, expected, tmp_path):
    ended = run_deadly(tmp_path, methods)
    assert ended.returncode == 1
    assert statuses(tmp_path) == expected
    assert "job 0 alone" in ended.stderr
    assert "job 0 unfinished" in ended.stdout
    assert f"1 of {len(expected)} jobs did not complete" in ended.stdout
    assert ended.stderr.count("a worker was killed") < 10


@pytest.mark.slow
def test_a_deadly_job_that_comes_first_leaves_the_three_after_it_whole(tmp_path):
    ended = run_deadly(tmp_path, "deadly.score,deadly.fine,deadly.fine,deadly.fine")
    assert ended.returncode == 1
    assert statuses(tmp_path) == ["unfinished", "completed", "completed", "completed"]
    assert "1 of 4 jobs did not complete" in ended.stdout


@pytest.mark.slow
def test_a_failing_job_of_a_sweep_started_again_is_named_in_the_table(tmp_path):
    ended = run_deadly(tmp_path, "deadly.once", "amount=0.2,1")
    assert ended.returncode == 1
    assert ended.stderr.count("a worker was killed") == 1
    assert "Traceback" not in ended.stderr
    assert statuses(tmp_path) == ["completed", "failed"]
    assert "1 of 2 jobs did not complete" in ended.stdout


@pytest.mark.slow
def test_the_pool_gives_the_bits_of_one_job_after_the_other(tmp_path):
    strategies = "strategy=ln_structured,custom,lottery_ticket"  # the others are these calls with other scores
    for name, launcher in (("basic", "hydra/launcher=basic"), ("pool", "hydra.launcher.n_jobs=2")):
        how = command(tmp_path / f"outputs-{name}", strategies, "threads=1", f"hydra.sweep.dir={tmp_path / name}")
        how = [part for part in how if not part.startswith("schedule.rounds")]  # custom has one
        how = [launcher if part.startswith("hydra.launcher.n_jobs") else part for part in how]
        subprocess.run(how, check=True, capture_output=True)
    for job in range(3):
        one, two = (tmp_path / name / str(job) for name in ("basic", "pool"))
        assert result(one) == result(two)
