"""hydra/launcher=submitit_slurm, against stand-ins for Slurm's commands that run the jobs on this machine."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from conftest import finish, numbers, overrides, start

from prunelab import report

SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
open("{folder}/submitted.sh", "a").write(script)
last = int(re.search(r"--array=0-(\\d+)", script)[1])
for task in range(last + 1):
    slurm = {{"SLURM_JOB_ID": str(100 + task), "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(task)}}
    slurm |= {{name: "0" for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")}}
    slurm |= {{"SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "here"}}
    how = {{"env": {{**os.environ, **slurm}}, "start_new_session": True, "stderr": subprocess.STDOUT}}
    subprocess.Popen(["bash", "-c", script], stdout=open("{folder}/jobs.log", "a"), **how)
print("Submitted batch job 77")
"""
SRUN = """#!{python}
import os, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words.pop(0) if "=" in words[0] or words[0] == "--unbuffered" else (words.pop(0), words.pop(0))
os.execvp(words[0], words)
"""
SACCT = """#!{python}
print("JobID|State|NodeList")
for task in range(2):
    print(f"77_{{task}}|RUNNING|here")
"""


@pytest.mark.skipif(not importlib.util.find_spec("submitit"), reason="submitit is not installed")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_on_slurm_has_the_results_of_the_local_one(tmp_path):
    (tmp_path / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        path = tmp_path / "bin" / name
        path.write_text(text.format(python=sys.executable, folder=tmp_path))
        path.chmod(0o755)
    words = ["-m", "seed=0,1", "model=lenet_300_100", "schedule.rounds=1", "baseline=false", "threads=1"]
    for launcher in ("basic", "submitit_slurm"):
        how = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path / launcher}"]
        how += ["hydra.launcher.partition=gpu", "hydra.launcher.cpus_per_task=1"] if launcher != "basic" else []
        path = os.pathsep.join((str(tmp_path / "bin"), os.environ["PATH"]))
        process = start(*words, *how, *overrides(tmp_path / f"out-{launcher}"), cwd=tmp_path, env={"PATH": path})
        result = finish(process, 400)
        assert result.returncode == 0, result.stderr
        assert [job.status for job in report.read_sweep(tmp_path / launcher)] == ["completed"] * 2
    script = (tmp_path / "submitted.sh").read_text()
    for wanted in ("--partition=gpu", "--cpus-per-task=1", "--array=0-1"):
        assert f"#SBATCH {wanted}" in script
    for number in ("0", "1"):
        one, other = (Path(tmp_path / launcher / number) for launcher in ("basic", "submitit_slurm"))
        assert numbers(one) == numbers(other)
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
