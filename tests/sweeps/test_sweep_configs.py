"""Which jobs a sweep has, however it is asked for; what is refused before its first."""

import json
from pathlib import Path

import pytest
from conftest import KILLS_ONCE, overrides

SWEEP = """# @package _global_
defaults:
  - override /hydra/launcher: {launcher}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      seed: "0,1"
"""


def experiment(folder: Path, launcher: str) -> list[str]:
    """A sweep over seeds in a config file of the user's own."""
    path = folder / "mine" / "experiment" / "seeds.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(SWEEP.format(launcher=launcher))
    return ["--config-dir", str(folder / "mine"), "experiment=seeds"]


def jobs(folder: Path) -> list[list[str]]:
    """What `sweep.json` says of the only sweep."""
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    return json.loads((sweep / "sweep.json").read_text())["jobs"]


@pytest.mark.parametrize("more", [[], pytest.param(["amount=0.2,0.3"], marks=pytest.mark.slow)])
def test_a_config_file_may_define_a_sweep(more, cli, tmp_path):
    args = overrides(tmp_path, "schedule.rounds=1", *more)
    result = cli(*experiment(tmp_path, "basic"), *args, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    amounts = more[0].split("=")[1].split(",") if more else [None]
    named = [(job[0], job[-1]) for job in jobs(tmp_path)]
    assert named == [
        (f"seed={seed}", f"amount={amount}" if amount else args[-1]) for seed in (0, 1) for amount in amounts
    ]
    assert result.stdout.splitlines()[0].startswith(f"{len(named)} jobs")


@pytest.mark.slow
def test_the_same_after_a_worker_was_killed(cli, tmp_path):
    (tmp_path / "deadly.py").write_text(KILLS_ONCE)
    args = overrides(tmp_path, "strategy=custom", "trusted=[deadly]", "strategy.method=deadly.once")
    how = [*experiment(tmp_path, "pool"), "hydra.launcher.n_jobs=2", "threads=1", *args]
    result = cli(*how, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("a worker was killed") == 1
    assert [job[0] for job in jobs(tmp_path)] == ["seed=0", "seed=1"]
    assert "did not complete" not in result.stdout


def test_a_choice_that_is_no_name_is_refused_in_one_line(cli, tmp_path):
    result = cli("-m", *overrides(tmp_path, "strategy=l1,3"), cwd=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("prunelab: strategy=3: ")
    assert not list(tmp_path.glob("outputs/sweeps/*/0"))
