"""A network of 25 million weights: the plan is immediate, and a run takes seconds and little memory."""

import re
import resource
import subprocess
import sys

import pytest

OVERRIDES = (
    "model=torchvision",
    "model.name=resnet50",
    "data=synthetic",
    "data.shape=[3,64,64]",
    "data.examples=500",
    "train.epochs=0",
    "finetune.epochs=0",
    "schedule.rounds=1",
    "amount=0.5",
    "threads=1",
)
PLAN = """
import time, torch, torchvision, torch._dynamo
from prunelab import compose
from prunelab.config.resolve import resolve
from prunelab.config.rounds import rounds
from prunelab.experiment.bench import Bench
from prunelab.experiment.plan import plan
import sys
spec = resolve(compose(*sys.argv[1:]))
start = time.process_time()
bench = Bench(spec, torch.device("cpu"))
(planned,) = plan(bench, rounds(spec))
print(planned.left, time.process_time() - start)
"""


@pytest.mark.slow
def test_resnet50_is_planned_within_two_seconds(tmp_path):
    command = [sys.executable, "-c", PLAN, *OVERRIDES, f"outputs={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    left, seconds = done.stdout.split()
    assert int(left) == 23_475_392 // 2
    assert float(seconds) < 2


@pytest.mark.slow
def test_resnet50_runs_within_seconds_and_little_memory(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "prunelab", *OVERRIDES, f"outputs={tmp_path / 'outputs'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    assert re.search(r"1 +50\.0% +50\.0% +11,737,696", done.stdout)
    assert seconds < 25  # of one CPU; 15 on a quiet machine
    assert used.ru_maxrss < 1_650_000  # kB, of which torch and torchvision take 700,000
