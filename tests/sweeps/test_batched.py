"""hydra/launcher=batched: its jobs against single runs, beside jobs that fail, and started again after a kill."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import finish, numbers, overrides, start, table
from hydra._internal.callbacks import Callbacks
from hydra.types import HydraContext, RunMode
from safetensors.torch import load_file

import prunelab
from prunelab import report
from prunelab.cli.run import task
from prunelab.config import compose as composing
from prunelab.sweeps import batched

FEW = ("model=lenet_300_100", "schedule=one_shot", "threads=1", "baseline=false")
FILES = ("model.safetensors", "masks.safetensors")


def few(folder: Path) -> list[str]:
    return overrides(folder, *FEW)


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., list[Path]]:
    """`sweep(*jobs, width=2)`: the run folders of jobs that were run together."""

    def run(*jobs: list[str], width: int = 2) -> list[Path]:
        with composing.own_hydra() as loader:
            settings = [f"hydra.sweep.dir={tmp_path}", "hydra.mode=MULTIRUN"]
            config = loader.load_configuration("config", settings, run_mode=RunMode.MULTIRUN)
            batched.run(
                HydraContext(loader, Callbacks()), task, config, width, [[*few(tmp_path), *job] for job in jobs], 0
            )
        return [tmp_path / str(number) for number in range(len(jobs))]

    return run


def same_network(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in FILES)


def test_a_sweep_is_close_to_single_runs_beside_jobs_that_fail_or_do_not_fit(sweep, tmp_path, capsys):
    together = sweep(["seed=1"], ["optimizer.lr=1e30"], ["regularizer=l1"], ["amount=2"])
    out = capsys.readouterr().out
    assert "prunelab: job 2 (regularizer=l1) trains alone: regularizer acts in each step\n" in out
    assert out.count("trains alone") == 1
    statuses = [report.read_run(folder).status for folder in together]
    assert statuses == ["completed", "failed", "completed", "failed"]
    assert "the loss became nan" in report.read_run(together[1]).error
    single = [
        prunelab.run(*few(tmp_path / "single"), *more, quiet=True).folder for more in (["seed=1"], ["regularizer=l1"])
    ]
    assert same_network(together[2], single[1])  # it trained alone: the same bits, and the same stages
    assert table(together[2] / "rounds.csv")[1]["stage"] == table(single[1] / "rounds.csv")[1]["stage"]
    assert table(together[0] / "rounds.csv")[1]["stage"] != table(single[0] / "rounds.csv")[1]["stage"]
    ours, theirs = (load_file(folder / "masks.safetensors") for folder in (together[0], single[0]))
    assert all(bool((ours[name] == mask).all()) for name, mask in theirs.items())
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (together[0], single[0]))
    assert all(float((ours[name] - weight).abs().max()) < 1e-4 for name, weight in theirs.items())
    one, other = numbers(together[0]), numbers(single[0])
    assert [row["sparsity"] for row in one] == [row["sparsity"] for row in other]
    assert len((together[0] / "prunelab.log").read_text().splitlines()) >= 2  # each job has a log of its own
    assert "seed=1" not in (together[2] / "prunelab.log").read_text()


JOBS = ("-m", "hydra/launcher=batched", "seed=0,1", "amount=0.2,0.6", "hydra.sweep.dir=sweep")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_and_started_again_it_ends_as_an_undisturbed_sweep(tmp_path):
    """Killed four times after some epochs; the bits of every job are those of the undisturbed sweep."""
    longer = [*FEW[:1], *FEW[2:], "train.epochs=3", "finetune.epochs=2", "schedule.rounds=2"]
    words = {name: (*JOBS, *overrides(tmp_path / name, *longer)) for name in ("undisturbed", "killed")}
    for name in words:
        (tmp_path / name).mkdir()
    assert finish(start(*words["undisturbed"], cwd=tmp_path / "undisturbed"), 600).returncode == 0
    generator = random.Random(0)
    for epochs in (2, 7, 13, 20):  # of 28 in all
        process = start(*words["killed"], cwd=tmp_path / "killed")
        while sum(rows(run) for run in (tmp_path / "killed" / "sweep").glob("*")) < epochs:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(0.2 * generator.random())
        process.kill()
        process.communicate()
    result = finish(start(*words["killed"], cwd=tmp_path / "killed"), 600)
    assert result.returncode == 0, result.stderr
    for number in range(4):
        one, other = (tmp_path / name / "sweep" / str(number) for name in words)
        assert numbers(one) == numbers(other)
        assert same_network(one, other)
        stages = [[row["stage"] for row in table(run / "rounds.csv")] for run in (one, other)]
        assert stages[0] == stages[1]


def rows(run: Path) -> int:
    """The number of epochs that a run has written."""
    path = run / "epochs.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_stops_all_jobs_with_a_checkpoint_and_the_command_goes_on(tmp_path):
    words = (*JOBS, *overrides(tmp_path, "train.epochs=200", "schedule.rounds=1"))
    process = start(*words, cwd=tmp_path)
    while rows(tmp_path / "sweep" / "0") < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, 2)
    result = finish(process, 300)
    assert result.returncode == 130
    assert "the same command goes on from here" in result.stderr
    assert len(list((tmp_path / "outputs" / "stages").glob("*.work/*/checkpoint.pt"))) == 2  # one dense network a seed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whole_runs_are_within_the_seed_noise_of_single_ones(tmp_path):
    """10 seeds, paired: the mean difference of the accuracies is less than two standard errors of that mean."""
    few = ["data.limit=2000", "train.epochs=2", "finetune.epochs=1", "schedule.rounds=2", "baseline=false"]
    seeds = "seed=0,1,2,3,4,5,6,7,8,9"
    found = {}
    for launcher in ("batched", "pool"):
        how = ("-m", f"hydra/launcher={launcher}", seeds, f"hydra.sweep.dir={launcher}")
        result = finish(start(*how, *overrides(tmp_path, *few), cwd=tmp_path), 800)
        assert result.returncode == 0, result.stderr
        runs = report.read_sweep(tmp_path / launcher)
        found[launcher] = torch.tensor([run.result["test_accuracy"] for run in runs], dtype=torch.float64)
    difference = found["batched"] - found["pool"]
    assert abs(difference.mean()) < 2 * found["pool"].std() / 10**0.5
    assert difference.std() < 2 * found["pool"].std()
    assert found["pool"].mean() > 0.6
