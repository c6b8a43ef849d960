"""The end of a sweep: jobs are found where Hydra put them, and the table names those that failed."""

import json

import pytest
from conftest import overrides

from prunelab import report

SCORES = """
import sys

def broken(weight):
    raise KeyError("dec.weight")

def leaves(weight):
    sys.exit(3)

def stops(weight):
    raise KeyboardInterrupt

calls = []

def late(weight):
    calls.append(1)
    if len(calls) > 3:  # the rehearsal scores three tensors
        raise ZeroDivisionError("late")
    return weight.abs()

def good(weight):
    return weight.abs()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "subdir", ["run_${hydra.job.num}", "a/${hydra.job.override_dirname}", "s${seed}/${hydra:job.num}"]
)
def test_folders_are_those_that_hydra_chose(tmp_path, cli, subdir):
    few = overrides(tmp_path, "schedule.rounds=1", "train.epochs=0", "model=lenet_300_100", "seed=3,4")
    where = [f"hydra.sweep.dir={tmp_path / 'out'}", f"hydra.sweep.subdir={subdir}"]
    keys = "hydra.job.config.override_dirname.exclude_keys=[outputs,data.limit]"
    done = cli("-m", *few, *where, keys, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 done" in done.stdout
    jobs = report.read_sweep(tmp_path / "out")
    assert [(job.number, job.seed, job.status) for job in jobs] == [(0, 3, "completed"), (1, 4, "completed")]
    assert all((job.folder / "model.safetensors").is_file() for job in jobs)
    again = cli("-m", *few, *where, keys, cwd=tmp_path)  # all of them are complete
    assert again.returncode == 0
    assert "done:" not in again.stdout


@pytest.mark.parametrize("subdir", ["same", "${now:%f}"])
def test_two_jobs_in_one_folder_are_refused(tmp_path, cli, subdir):
    where = [f"hydra.sweep.dir={tmp_path / 'out'}", f"hydra.sweep.subdir={subdir}"]
    done = cli("-m", *overrides(tmp_path, "seed=3,4"), *where, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"prunelab: hydra.sweep.subdir={subdir}: gives jobs 0 and 1 the same folder, ")


@pytest.mark.slow
def test_the_table_comes_and_names_the_jobs_that_failed(tmp_path, cli):
    (tmp_path / "scores.py").write_text(SCORES)
    few = overrides(tmp_path, "schedule.rounds=1", "model=lenet_300_100", f"hydra.sweep.dir={tmp_path / 'out'}")
    methods = [f"scores.{name}" for name in ("broken", "good", "leaves", "late", "stops")]
    asked = ["strategy=custom", f"strategy.method={','.join(methods)}", "trusted=[scores]"]
    done = cli("-m", *few, *asked, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    jobs = report.read_sweep(tmp_path / "out")
    assert [job.status for job in jobs] == ["failed", "completed", "failed", "failed", "interrupted"]
    assert "4 of 5 jobs did not complete" in done.stdout
    assert "\njob 4 interrupted: " in done.stdout
    for number, said in ((0, "dec.weight"), (2, "SystemExit: 3"), (3, "late")):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"job {number} failed")]
        assert said in line


@pytest.mark.slow
def test_what_a_job_could_not_make_is_in_the_table_and_tried_again(tmp_path, cli):
    few = overrides(tmp_path, "schedule.rounds=1", "model=lenet_300_100", f"hydra.sweep.dir={tmp_path / 'out'}")
    for _ in range(2):
        done = cli("-m", *few, "export=[csr]", "seed=3", "amount=0.2,0.95", cwd=tmp_path)
        assert done.returncode == 1
        assert "\njob 0: export=csr: no layer can be stored as CSR" in done.stdout
        assert "job 1:" not in done.stdout
        assert "0 of" not in done.stdout
    assert json.loads((tmp_path / "out" / "0" / "summary.json").read_text())["status"] == "completed"
