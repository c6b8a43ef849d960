"""The sweeps in conf/sweep, and one over all strategies, some of which cannot take an amount."""

import json

import pytest
from conftest import overrides
from omegaconf import OmegaConf

FAST = ("train.epochs=0", "finetune.epochs=0")


def sweep_of(folder):
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    return json.loads((sweep / "sweep.json").read_text())["jobs"]


@pytest.mark.parametrize(
    ("name", "params", "schedule"),
    [
        ("strategies", {"strategy": 5, "seed": 5}, "iterative"),
        ("amounts", {"strategy": 3, "amount": 7, "seed": 3}, "one_shot"),
    ],
)
def test_what_a_ready_sweep_is(name, params, schedule, cli, tmp_path):
    result = cli(f"+sweep={name}", "--cfg", "hydra", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    hydra = OmegaConf.create(result.stdout).hydra
    listed = {key: len(value.split(",")) for key, value in hydra.sweeper.params.items()}
    listed["seed"] = int(hydra.sweeper.params.seed.removeprefix("range(").removesuffix(")"))
    assert listed == params
    assert hydra.mode == "MULTIRUN"
    assert hydra.runtime.choices.schedule == schedule


@pytest.mark.slow
def test_it_runs_without_m_and_the_command_line_has_the_last_word(cli, tmp_path):
    result = cli("+sweep=amounts", "amount=0.5,0.9", "seed=0", *overrides(tmp_path, *FAST), cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    jobs = [job[:3] for job in sweep_of(tmp_path)]
    strategies, amounts = ("l1", "global", "random"), (0.5, 0.9)
    assert jobs == [[f"strategy={s}", f"amount={a}", "seed=0"] for s in strategies for a in amounts]
    assert result.stdout.count("90.0%") >= 3


@pytest.mark.slow
def test_all_strategies_those_that_take_no_amount_say_so_and_stop_no_other(cli, tmp_path):
    how = ["-m", "strategy=glob(*)", "amount=0.2", "seed=range(1)", *overrides(tmp_path, *FAST)]
    result = cli(*how, cwd=tmp_path)
    assert result.returncode == 1
    strategies = {job[0].removeprefix("strategy=") for job in sweep_of(tmp_path)}
    assert {"l1", "global", "nm", "threshold", "mixed"} < strategies
    lines = [line for line in result.stdout.splitlines() if line.startswith("job ") and " failed: " in line]
    assert [line.split("strategy=")[1].split()[0] for line in lines] == ["layer", "mixed", "nm", "threshold"]
    assert "no layer of LeNet keeps its input's shape" in lines[0]
    assert all(line.endswith("null") for line in lines[1:])
    assert f"4 of {len(strategies)} jobs did not complete" in result.stdout
