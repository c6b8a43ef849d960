"""Every command and every block of Python in the README and in docs/ is run, on a part of the data."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import forked
import pytest
import torch

import prunelab
from prunelab.cli.main import COMMANDS as SUBCOMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = README + "".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGES, re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.strip()]
PYTHON = [block for kind, block in BLOCKS if kind == "python"]
OURS = [command for command in COMMANDS if command.startswith("prunelab ")]
TOOLS = [command for command in OURS if command.split()[1] in SUBCOMMANDS]
RUNS = [command for command in OURS if command not in TOOLS]
INSTALLS = [command for command in COMMANDS if command.startswith("pip install -e")]
SERVERS = [command for command in COMMANDS if command.startswith("tensorboard")]
QUICK = ["data.limit=300", "train.epochs=1", "finetune.epochs=1", "latency=false"]
EXTRAS = {"integrations import lightning": ("lightning", "transformers"), "result.plot": ("pandas", "matplotlib")}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder as a reader would have it: the model of the README in it, and outputs of earlier commands."""
    folder = tmp_path_factory.mktemp("readme")
    (model,) = (block for block in PYTHON if block.startswith("# mynet.py"))
    (folder / "mynet.py").write_text(model)
    done = run("prunelab -m strategy=l1,global", folder, *QUICK)  # for commands that show what there is
    assert done.returncode == 0, done.stderr
    return folder


def run(command, folder, *more):
    _, *words = shlex.split(command)
    return forked.run(*words, *more, cwd=folder, timeout=240)


def test_every_command_is_of_a_kind_that_is_tested():
    assert set(COMMANDS) == {*RUNS, *TOOLS, *INSTALLS, *SERVERS}
    assert len(RUNS) > 10
    assert {command.split()[1] for command in TOOLS} >= {"inspect", "report", "search", "stages"}


def serious(said):
    """Lines on stderr, without a warning that nearly untrained networks give."""
    return [line for line in said.splitlines() if "down to its last" not in line]


def quick(command):
    """Overrides that make a command of the README a matter of seconds."""
    if "data=synthetic" in command:
        return ["train.epochs=1"]
    if "sparse_training=" in command:
        return ["data.limit=300", "finetune.epochs=2", "sparse_training.every=2", "latency=false"]
    if "lottery_ticket_figure" in command:
        return [*QUICK, "schedule.rounds=1", "hydra.sweeper.params.seed='0,1'"]
    if "+sweep=" in command:
        few = ["hydra.sweeper.params.strategy='l1,global'", "hydra.sweeper.params.seed='0'"]
        return [*QUICK, *few, *(["hydra.sweeper.params.amount='0.5,0.9'"] if "amounts" in command else [])]
    return [item for item in QUICK if item.split("=")[0] not in command]


LONG = (
    "lottery_ticket_figure",
    "submitit_local",
    "launcher=basic",
    "launcher=batched",
    "n_jobs",
    "+sweep=",
    "lottery_ticket seed=0,1",
    "schedule.macs",
    "schedule=until",
    "vit_tiny",
    "synflow",
    "export=",
)


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=[pytest.mark.slow] * any(word in c for word in LONG)) for c in RUNS]
)
def test_run(command, home):
    done = run(command, home, *([] if "--cfg" in command else quick(command)))
    assert (done.returncode, serious(done.stderr)) == (0, []), done.stderr
    assert "sparsity" in done.stdout or "--cfg" in command


@pytest.mark.parametrize("command", TOOLS)
def test_tool(command, home):
    done = run(command, home, *([*QUICK, "--trials", "2"] if " search " in command else []))
    assert (done.returncode, serious(done.stderr)) == (0, []), done.stderr


@pytest.mark.parametrize("command", SERVERS)
def test_tensorboard_lists_the_runs(command, home):
    words = [*shlex.split(command), "--port", "0", "--host", "127.0.0.1", "--reload_multifile", "false"]
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    words[0] = str(Path(sys.executable).with_name("tensorboard"))
    with (home / "tensorboard.log").open("w") as log:
        server = subprocess.Popen(words, cwd=home, stdout=log, stderr=log, env=environment)
    try:
        assert "outputs" not in (runs := wait_for_runs(server, home / "tensorboard.log"))
        assert any("sweeps" in name for name in runs)
    finally:
        server.kill()
        server.wait()


def wait_for_runs(server, log):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        if match := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text()):
            with opener.open(f"{match[0]}data/runs") as reply:
                runs = json.loads(reply.read())
            if any("sweeps" in name for name in runs):
                return runs
        time.sleep(0.25)
    raise AssertionError(log.read_text())


def python(code, home):
    for words, packages in EXTRAS.items():
        for package in packages:
            if words in code and importlib.util.find_spec(package) is None:
                pytest.skip(f"needs {package}")
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "code",
    [code for code in PYTHON if not any(call in code for call in ("prunelab.Pruner(", "prunelab.run("))],
    ids=lambda code: code.splitlines()[-1][:40],
)
def test_python_block(code, home):
    """The blocks that train have tests of their own, below."""
    python(code, home)


def test_the_loop_prunes_a_resnet_to_the_sparsity_it_asks_for(home):
    (code,) = (block for block in PYTHON if "prunelab.Pruner(" in block)
    said = python(code, home).stdout
    units = re.findall(r"(\d+) of (\d+)  ", said.replace(",", ""))
    left, there = (sum(int(pair[i]) for pair in units) for i in (0, 1))
    assert left == pytest.approx(0.4 * there, abs=2)
    assert re.search(r"layer4\.1\.conv1: \d+ of 512 channels", said)


def test_the_experiments_from_python_give_tables(home):
    notebook, data = (block for block in PYTHON if "prunelab.run(" in block)
    said = python(notebook, home).stdout
    assert re.search(r"^outputs/\d", said, re.MULTILINE)
    assert re.search(r"^\d+ +lamp +0 +0\.\d+$", said, re.MULTILINE)  # of the frame of runs
    assert re.search(r"^[01]\.\d+$", python(data, home).stdout, re.MULTILINE)


def test_the_two_commands_are_on_the_first_screen_and_ci_runs_the_second():
    first_screen = "\n".join(README.splitlines()[:30])
    assert INSTALLS == [
        "pip install -e . && python -m prunelab strategy=global amount=0.2",
        'pip install -e ".[test]" && pytest',
    ]
    assert all(command in first_screen for command in INSTALLS)
    assert INSTALLS[1] in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("axis", ["criterion", "granularity", "allocation", "schedule", "strategy"])
def test_the_tables_name_choices_that_there_are(axis):
    """In both directions for what ships; a new choice of an outsider's needs no line in the README."""
    rows = re.findall(rf"\| `{axis}=` \|.*\n\|[-|]+\n((?:\|.*\n)+)", README)
    named = {name for table in rows for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    there = {path.stem for path in (ROOT / "conf" / axis).glob("*.yaml")}
    assert named <= there
    assert len(named) >= 4


def test_the_table_of_keys_is_the_schemas():
    spec = importlib.util.spec_from_file_location("keys_page", ROOT / "scripts" / "keys.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "keys.md").read_text() == module.page(), "run python scripts/keys.py"


def test_the_criterion_of_contributing_scores_by_the_gradient():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    defined = {}
    exec(code, defined)
    model = torch.nn.Linear(2, 3, bias=False)
    data = [(torch.tensor([[1.0, 10.0]]), torch.tensor([0]))]  # the gradient of the second input is ten times as large
    pruner = prunelab.Pruner(model, criterion=defined["slope"], data=data)
    first, second = pruner.score()[0].T
    assert torch.allclose(second, 10 * first)
