"""The command line, in processes of its own: one line for what is wrong, quick answers, graceful stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from conftest import BASIC, numbers, overrides, table
from omegaconf import OmegaConf

import prunelab.config.compose
from prunelab.cli.main import COMMANDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


def runs(folder: Path) -> list[Path]:
    """The run folders under `outputs/<date>/<time>`."""
    return sorted(path for path in (folder / "outputs").glob("*-*-*/*") if path.is_dir())


def only_line(result) -> str:
    """What a failed command says: one line on stderr, nothing else anywhere."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("Error executing job with"))
    assert line.startswith("prunelab: ")
    return line


# Wrong input


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("amount=1", ["amount=1", "[0, 1)"]),
        ("strategy=magnitude", ["strategy=magnitude", "global", "lottery_ticket"]),
        ("+amonut=3", ["amonut=3", "amount"]),
        ("amount=[", ["amount=["]),
        ("model._target_=os.system", ["model.command=null", "must be given"]),  # typed, and therefore trusted
        ("model.checkpoint=nowhere.pt", ["model.checkpoint=nowhere.pt: no such file"]),
        ("data=null", ["data=null", "run(config, data=…)"]),
        ("hydra.verbosee=1", ["hydra.verbosee"]),
        ("prune.include=[conv9.weight]", ["prune.include=[conv9.weight]", "conv1.weight"]),
        ("device=cuda:1", ["device=cuda:1", "cpu"]),
        ("device=cuda:x", ["device=cuda:x", "cuda:1"]),
    ],
)
def test_wrong_input_is_answered_in_one_line(cli, tmp_path, given, parts):
    result = cli(given, cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": ""})
    line = only_line(result)
    assert not [part for part in parts if part not in line], line
    assert result.stdout == ""
    assert not runs(tmp_path)


@pytest.mark.parametrize(
    "typo",
    ["strategy=globl,l1", "strateg=l1,global", "amount=2,3", "train.epochs=-1,-2", "model.checkpoint=no.pt,nor.pt"],
)
def test_a_typo_leaves_no_folder_of_a_sweep(cli, tmp_path, typo):
    line = only_line(cli("sweep", typo, cwd=tmp_path))
    assert typo.split(",")[0] in line
    assert not list(tmp_path.iterdir())


def test_the_traceback_is_there_for_who_wants_it(cli, tmp_path):
    result = cli("amount=1", cwd=tmp_path, env={"HYDRA_FULL_ERROR": "1"}, flags=())
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ConfigError: amount=1" in result.stderr


def test_outputs_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "file").write_text("")
    line = only_line(cli(f"outputs={tmp_path / 'file' / 'outputs'}", cwd=tmp_path))
    assert str(tmp_path / "file" / "outputs") in line
    assert "outputs=" in line


def test_a_loss_that_diverges_ends_the_run_in_one_line(cli, tmp_path):
    result = cli(*overrides(tmp_path, "optimizer=sgd", "optimizer.lr=1e30"), cwd=tmp_path)
    line = only_line(result)
    assert not [part for part in ("round 0", "step ", "1e+30") if part not in line], line
    (run,) = runs(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "round 0" in summary["error"]


# Quick answers


WRONG = ["amount=1", "strategy.amonut=1", "strategy=nix", "strateg"]
PAGES = ["--help", "--version", *(f"{name} --help" for name in COMMANDS)]


HEAVY = {"torch", "torchvision", "tensorboard", "numpy", "optuna", "matplotlib"}
ALL_PAGES = f"""
import sys
from prunelab.cli.main import main
for line in {PAGES}:
    sys.argv = ["prunelab", *line.split()]
    try:
        main()
    except SystemExit as end:
        assert end.code == 0, line
print({HEAVY} & set(sys.modules))
"""


def test_pages_import_no_torch(python, tmp_path):
    said = python(ALL_PAGES, cwd=tmp_path)
    assert (said.stderr, said.stdout.splitlines()[-1]) == ("", "set()")


@pytest.mark.parametrize("line", [*WRONG, "--cfg job"])
def test_quick_answers_import_no_torch(cli, tmp_path, line):
    result = cli(*line.split(), cwd=tmp_path, flags=("-X", "importtime"))
    assert result.returncode == (1 if line in WRONG else 0)
    modules = {line.rpartition("|")[2].strip().split(".")[0] for line in result.stderr.splitlines() if "|" in line}
    assert "prunelab" in modules
    assert not modules & HEAVY


@pytest.mark.parametrize(("line", "limit"), [("--help", 4), ("report --help", 4), ("amount=1", 7), ("--cfg job", 7)])
def test_quick_answers_cost_little_more_than_an_import_of_hydra(cli, python, tmp_path, line, limit):
    """Measured 2, 0.5, 4.4 and 3.6 times as much processor time. An import of torch alone costs more than 10 times."""

    def cost(call: Callable[[], object]) -> float:
        before = os.times()
        call()
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    def ratio() -> float:
        return cost(lambda: cli(*line.split(), cwd=tmp_path, flags=())) / cost(
            lambda: python("import hydra", cwd=tmp_path)
        )

    assert any(ratio() < limit for _ in range(3))  # other processes disturb it


# Commands


def test_the_first_word_may_be_run_or_sweep(cli, tmp_path):
    plain = [cli(*words, "--cfg", "job", "amount=0.3", cwd=tmp_path) for words in ([], ["run"])]
    assert plain[0].stdout == plain[1].stdout
    assert "amount: 0.3" in plain[0].stdout
    swept = cli("sweep", BASIC, *overrides(tmp_path, "train.epochs=0", "finetune.epochs=0", "seed=0,1"), cwd=tmp_path)
    assert (swept.returncode, swept.stderr) == (0, "")
    assert swept.stdout.startswith("2 jobs → ")


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("reprot", "there is no command reprot; did you mean report?"),
        ("lottery_ticket", "there is no command lottery_ticket; did you mean strategy=lottery_ticket?"),
        ("0.2", "there is no command 0.2; must be key=value or one of run, sweep, search"),
    ],
)
def test_a_word_that_is_no_command_is_answered_in_one_line(cli, tmp_path, word, answer):
    result = cli(word, "amount=0.2", cwd=tmp_path)
    assert only_line(result).startswith(f"prunelab: {answer}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["search", "report", "inspect", "compact", "export", "stages"])
def test_a_command_and_its_older_form_have_the_same_page(cli, tmp_path, name):
    page = cli(name, "--help", cwd=tmp_path)
    assert page.stdout == cli("--help", module=f"prunelab.{name}", cwd=tmp_path).stdout
    assert page.stdout.startswith(f"usage: prunelab {name} ")


def test_the_console_script_is_the_same_command(cli, tmp_path):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    module, _, function = project["project"]["scripts"]["prunelab"].partition(":")
    code = f"import sys; sys.argv = ['prunelab', '--help']; from {module} import {function}; {function}()"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert said.stdout == cli("--help", cwd=tmp_path).stdout


def test_the_page_lists_groups_of_your_own(cli, tmp_path):
    (tmp_path / "mine" / "strategy").mkdir(parents=True)
    (tmp_path / "mine" / "strategy" / "best.yaml").write_text("")
    for given in (["--config-dir", "mine"], ["--config-dir=mine"]):
        listed = cli(*given, "--help", cwd=tmp_path).stdout
        assert "strategy: best, block, " in listed


def test_help_is_a_page_of_choices_keys_and_commands(cli, tmp_path):
    said = cli("--help", cwd=tmp_path).stdout
    assert len(said.splitlines()) < 60
    assert max(map(len, said.partition("== Set")[2].splitlines())) <= 122  # no wider than before
    for group in (prunelab.config.compose.folder()).iterdir():
        if group.is_dir() and group.name != "hydra":
            choices = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
            assert f"{group.name}: {choices}" in said
    config = prunelab.compose()
    keys = re.findall(r"^ {2}(\S+) {2,}.*?(?:default (\S+))?$", said.partition("== Set")[2], re.M)
    assert len(keys) == 15
    assert {"schedule.macs", "finetune.distill.alpha", "latency"} <= {key for key, _ in keys}
    for key, default in keys:
        assert default in ("", str(OmegaConf.select(config, key)))
        assert not default or prunelab.config.schema.allowed(key)
    commands = re.findall(r"^ {2}prunelab (.+)$", said.partition("== Try")[2].partition("== Choose")[0], re.M)
    assert len(commands) == 5
    for command in commands:
        if "-m" not in command and "mynet" not in command:
            prunelab.compose(*command.split())
    assert not (tmp_path / "outputs").exists()


# A run


@pytest.fixture(scope="module")
def normal(cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("normal")
    return folder, cli(*overrides(folder, "schedule.rounds=2"), cwd=folder)


def test_a_run_says_nothing_on_stderr(normal):
    _, result = normal
    assert result.returncode == 0
    assert result.stderr == ""


def test_a_run_shows_the_plan_the_table_and_three_lines(normal):
    folder, result = normal
    (run,) = runs(folder)
    lines = [line.split() for line in result.stdout.splitlines()]
    title, *lines = lines
    assert title == ["plan:", "strategy", "global,", "2", "rounds", "after", "dense", "training"]
    assert lines[0] == ["round", "amount", "sparsity", "prunable", "weights", "left"]
    assert lines[2] == ["1", "20.0%", "20.0%", "47,870"]
    assert lines[3] == ["2", "20.0%", "36.0%", "38,296"]
    assert lines[4] == []
    lines = lines[5:]
    columns = "round sparsity nonzero compression theoretical speed-up val accuracy test accuracy seconds stage"
    assert lines[0] == columns.split()
    assert [line[:3] for line in lines[2:5]] == [
        ["0", "0.0%", "60,074"],
        ["1", "20.0%", "48,106"],
        ["2", "36.0%", "38,532"],
    ]
    assert lines[5][0] == "Sparsity:"
    assert lines.pop(7)[:6] == ["Round", "2", "was", "trained", "for", "2"]
    assert lines[7] == []
    assert lines[8][:2] == ["parameters", "nonzero"]
    dense, masked = lines[10:12]
    assert dense[:4] == ["dense", "(torch)", "60,074", "60,074"]
    assert masked[:4] == ["masked", "(torch)", "60,074", "38,532"]
    assert masked[6] == f"{(run / 'model.safetensors').stat().st_size:,}"  # what is shipped: the masks are not
    assert lines[15][:5] == ["masked", "(torch):", "no", "speed-up:", "the"]
    assert lines[16] == []
    assert lines[17] == ["results", str(run)]
    assert lines[18] == ["TensorBoard", "tensorboard", "--logdir", str(run), "--port", "6006"]
    assert lines[19][-1].startswith("http://localhost:6006/")
    assert len(lines) == 20


def test_a_run_folder_is_complete(normal):
    folder, _ = normal
    (run,) = runs(folder)
    expected = {"rounds.csv", "epochs.csv", "layers.csv", "summary.json", "model.safetensors", "masks.safetensors"}
    there = {path.name for path in run.iterdir()}
    (board,) = (path.parent.name for path in run.rglob("events.out.tfevents.*"))
    assert board.startswith("data.limit=300_train.epochs=1_")  # TensorBoard names the run after its folder
    assert there - {board} == expected | {".hydra", ".lock", "prunelab.log"}
    assert {path.name for path in (run / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    assert "round 2" in (run / "prunelab.log").read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["command"].startswith("python -m prunelab device=cpu data.limit=300 ")
    assert "schedule.rounds=2" in summary["command"]


def test_the_same_command_reuses_its_stages(cli, normal):
    folder, _ = normal
    again = cli(*overrides(folder, "schedule.rounds=2"), cwd=folder)
    assert (again.returncode, again.stderr) == (0, "")
    first, second = runs(folder)
    assert numbers(first) == numbers(second)
    assert [row["reused"] for row in table(second / "rounds.csv")] == ["true"] * 3
    assert again.stdout.count("reused") == 3
    second.rename(folder / "aside")  # the other tests look at a single one


def test_stages_lists_what_a_run_stored(cli, normal):
    folder, _ = normal
    listed = cli("stages", cwd=folder).stdout.splitlines()
    rounds = [line.split()[3:8] for line in listed if line.split()[1:2] == ["round"]]
    assert rounds == [[number, "0", "0.2", "magnitude", "weight"] for number in ("1", "2")]
    assert listed[-1].startswith("4 stages, ")


# A sweep


def test_a_failing_job_neither_stops_the_others_nor_goes_unnoticed(cli, tmp_path):
    result = cli("-m", BASIC, *overrides(tmp_path, "schedule.rounds=1", "amount=0.2,1,0.3"), cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    summaries = [json.loads((sweep / str(job) / "summary.json").read_text()) for job in range(3)]
    assert [summary["status"] for summary in summaries] == ["completed", "failed", "completed"]
    assert [round(summaries[job]["final"]["sparsity"], 3) for job in (0, 2)] == [0.2, 0.3]
    (named,) = (line for line in result.stdout.splitlines() if line.startswith("job 1 failed"))
    assert "amount=1" in named
    assert "[0, 1)" in named
    assert "1 of 3 jobs did not complete" in result.stdout.splitlines()


def test_a_sweep_over_strategies_and_seeds_ends_with_a_table(cli, tmp_path):
    args = overrides(tmp_path, "schedule.rounds=1", "train.epochs=0", "strategy=l1,lottery_ticket", "seed=0,1")
    result = cli("-m", BASIC, *args, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    jobs = [line.split()[:3] for line in result.stdout.splitlines() if re.match(r"[0-3] {2,}strategy=", line)]
    assert jobs == [
        ["0", "strategy=l1", "seed=0"],
        ["1", "strategy=l1", "seed=1"],
        ["2", "strategy=lottery_ticket", "seed=0"],
        ["3", "strategy=lottery_ticket", "seed=1"],
    ]
    assert "strategy=l1 " in result.stdout
    assert " ± " in result.stdout


def test_a_sweep_with_a_choice_that_does_not_exist_does_not_start(cli, tmp_path):
    result = cli("-m", *overrides(tmp_path, "strategy=l1,magnitude"), cwd=tmp_path)
    assert "strategy=magnitude" in only_line(result)
    assert not list(tmp_path.glob("outputs/sweeps/*/0/rounds.csv"))


# Ctrl-C and SIGTERM


def wait_for_epochs(process, folder: Path, count: int) -> None:
    """Until a run has written so many rows of epochs.csv."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        written = [path.read_text().count("\n") - 1 for path in folder.glob("outputs/*/*/epochs.csv")]
        if max(written, default=0) >= count:
            return
        assert process.is_alive()
        time.sleep(0.01)
    pytest.fail("no training within a minute")


LONGER = ("data.limit=1500", "train.epochs=4", "schedule.rounds=1", "train.batch_size=32")


@pytest.fixture(scope="module")
def uninterrupted(cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert cli(*overrides(folder, *LONGER), cwd=folder).returncode == 0
    return numbers(*runs(folder))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stopped_run_goes_on_where_it_was(cli, tmp_path, uninterrupted, number, status):
    args = overrides(tmp_path, *LONGER)
    command = forked.Command(*args, cwd=tmp_path)
    wait_for_epochs(command.process, tmp_path, 1)
    began = time.perf_counter()
    os.kill(command.process.pid, number)
    result = command.finish()
    assert time.perf_counter() - began < 5
    assert result.returncode == status
    assert result.stderr.splitlines() == ["prunelab: stopped; the same command goes on from here"]
    (stopped,) = runs(tmp_path)
    assert json.loads((stopped / "summary.json").read_text())["status"] == "interrupted"
    finished = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/stages/*/stage.json")]
    assert [stage["kind"] for stage in finished] == ["init"]  # of training, no stage was finished

    again = cli(*args, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    (run,) = (path for path in runs(tmp_path) if path != stopped)
    assert numbers(run) == uninterrupted
    epochs = table(run / "epochs.csv")
    assert len(epochs) == 5
    assert epochs[0]["reused"] == "true"
    assert epochs[-1]["reused"] == "false"
