"""Every command and block of Python in the README, docs/ and docs/guide/ is run, on a part of the data."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from importlib import import_module
from pathlib import Path

import forked
import pytest
import torch

import prunelab
from prunelab.cli.main import COMMANDS as SUBCOMMANDS
from prunelab.records import RoundRecord, csv_columns
from prunelab.runtime import fresh_process

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *GUIDE]
BLOCKS = [block for path in FILES for block in re.findall(r"```(\w+)\n(.*?)```", path.read_text(), re.DOTALL)]
COMMANDS = list(dict.fromkeys(line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line))
PYTHON = [block for kind, block in BLOCKS if kind == "python"]
OURS = [command for command in COMMANDS if command.startswith("prunelab ")]
TOOLS = [command for command in OURS if command.split()[1] in SUBCOMMANDS]
RUNS = [command for command in OURS if command not in TOOLS]
INSTALLS = [command for command in COMMANDS if command.startswith("pip install -e")]
SERVERS = [command for command in COMMANDS if command.startswith("tensorboard")]
LONG = ("criterion=obs",)
SWEEP = "prunelab -m strategy=l1,global,random seed=0,1"
SWEEPS = [command for command in RUNS if "prunelab -m " in command or "+sweep=" in command or "_figure" in command]
QUICK = ["data.limit=100", "train.epochs=1", "finetune.epochs=1", "latency=false", "schedule.rounds=1"]
NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width: int):
        super().__init__(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))
"""
TRAINING = """
import torch

loader = [(torch.randn(4, 3, 32, 32), torch.randint(10, (4,))) for _ in range(2)]

def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for images, labels in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder as a reader would have it: files of the reader's own, and outputs of the README's sweep."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "mynet.py").write_text(NET)
    (folder / "mytraining.py").write_text(TRAINING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(fresh_process.ADDRESS, fresh_process._address())  # one server for all commands
        done = forked.run(*shlex.split(SWEEP)[1:], *QUICK, "hydra/launcher=basic", cwd=folder, timeout=240)
        assert done.returncode == 0, done.stderr
        yield folder


@pytest.fixture
def here(home, monkeypatch):
    """That folder as the current one, in this process."""
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(home)
    yield home
    for name in ("mynet", "mytraining"):
        sys.modules.pop(name, None)


def quick(command):
    """Overrides that make a command a matter of a second; what it names itself stays."""
    named = {word.split("=")[0].lstrip("+") for word in shlex.split(command)}
    gradual = ("schedule=one_shot", "schedule=gradual")  # which have one round by themselves
    words = [word for word in QUICK if not (word.startswith("schedule") and any(one in command for one in gradual))]
    return [word for word in words if word.split("=")[0] not in named]


def test_every_command_is_of_a_kind_that_is_tested():
    assert set(COMMANDS) == {*RUNS, *TOOLS, *INSTALLS, *SERVERS}
    assert SWEEP in SWEEPS
    assert len(RUNS) > 10
    assert {command.split()[1] for command in TOOLS} >= {"report", "runs", "search", "stages"}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[pytest.mark.slow] * any(word in command for word in LONG), id=command[9:70])
        for command in RUNS
        if command not in SWEEPS
    ],
)
def test_run(command, here):
    result = prunelab.run(*shlex.split(command)[1:], *quick(command), quiet=True)
    assert result.problems == []
    assert result.rounds[-1].sparsity > 0


@pytest.mark.parametrize("command", SWEEPS)
def test_the_first_job_of_a_sweep_composes(command):
    words = [word for word in shlex.split(command)[1:] if word != "-m" and not word.startswith(("hydra", "+sweep"))]
    first = [word if "[" in word else word.split(",")[0] for word in words]
    assert prunelab.compose(*first).strategy.name


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in SWEEPS if command != SWEEP])
def test_sweep(command, home):
    few = []
    if "+sweep=" in command:
        few = ["hydra.sweeper.params.strategy='l1,global'", "hydra.sweeper.params.seed='0'"]
        few += ["hydra.sweeper.params.amount='0.5,0.9'"] if "amounts" in command else []
    if "_figure" in command:
        few = ["hydra.sweeper.params.seed='0,1'"]
    words = quick("schedule=one_shot" if "amounts" in command else command)
    done = forked.run(*shlex.split(command)[1:], *words, *few, cwd=home, timeout=240)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "sparsity" in done.stdout


@pytest.mark.slow
def test_the_first_command_in_full(home):
    """The one form that is run as it stands, on all data."""
    done = forked.run(*shlex.split(INSTALLS[0].partition("-m prunelab ")[2]), cwd=home, timeout=280)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^5 +67\.2% .* 9[89]\.\d\d% ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", TOOLS)
def test_tool(command, here, capsys):
    name, *words = shlex.split(command)[1:]
    words += [*quick(command), "--trials", "2"] if name == "search" else []
    assert import_module(f"prunelab.cli.{name}").main(words) == 0
    said = capsys.readouterr()
    assert said.out


@pytest.mark.slow
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


def python(code):
    if "result" in code or "results(" in code:
        pytest.importorskip("pandas")
    names = {}
    exec(code.replace('train={"epochs": 1}', 'train={"epochs": 1}, schedule={"rounds": 1}'), names)
    return names


@pytest.mark.filterwarnings("ignore:.*down to its last")  # of a network that has seen eight random images
@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.strip().splitlines()[-1][:40])
def test_python_block(code, here):
    names = python(code)
    if "from mytraining" in code:  # 60% of all channels, as the comment says
        units = re.findall(r"(\d+) of (\d+) ", str(names["pruner"].summary()))
        left, there = (sum(int(pair[i]) for pair in units) for i in (0, 1))
        assert left == pytest.approx(0.4 * there, abs=2)


def test_the_two_commands_are_on_the_first_screen_and_ci_runs_the_second():
    first_screen = "\n".join(README.splitlines()[:30])
    assert INSTALLS == [
        "pip install -e . && python -m prunelab strategy=global amount=0.2",
        'pip install -e ".[test]" && pytest',
    ]
    assert all(command in first_screen for command in INSTALLS)
    assert INSTALLS[1] in (ROOT / ".ci" / "run").read_text()


def test_the_readme_is_short_and_begins_with_claim_and_limits():
    lines = README.splitlines()
    assert len(lines) <= 150, "docs/guide has room"
    assert {"**Prune", "Limits:"} <= {line.split()[0] for line in lines[:10] if line}


def test_no_code_in_a_sentence_is_broken_over_two_lines():
    """It is copied from the file as well as from the page."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        sentences = re.sub(r"^ *```.*?^ *```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        assert not [line for line in sentences.splitlines() if line.count("`") % 2], path


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *(f"docs/guide/{path.name}" for path in GUIDE)])
def test_links_lead_to_files_and_headings(name):
    path = ROOT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        file, _, heading = link.partition("#")
        if "://" in link:
            continue
        target = path.parent / file if file else path
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else []
        assert not heading or heading in [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings]


def test_the_page_of_files_names_what_a_run_leaves(here):
    page = (ROOT / "docs" / "guide" / "runs_and_files.md").read_text()
    rows = re.findall(
        r"^\| (`.*`.*?) \| (.*) \|$", page.partition("## What is in")[2].partition("## ")[0], re.MULTILINE
    )
    always = [name for cell, told in rows if "with `" not in told for name in re.findall(r"`(.*?)`", cell)]
    run = next((here / "outputs" / "sweeps").glob("*/0"))
    for name in always:
        assert list(run.glob(name.replace("…/", "**/").rstrip("/"))), name
    written = {path.name.split(".tfevents")[0] for path in run.iterdir() if path.is_file() and path.name[0] != "."}
    assert written <= {*always, "events.out"}
    named = re.findall(r"`(\w+)`", page.partition("Columns of `rounds.csv`")[2].partition("All are")[0])
    assert len(named) > 5
    assert set(named) <= set(csv_columns(RoundRecord))


def script(name):
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_keys_is_the_schemas():
    assert (ROOT / "docs" / "keys.md").read_text() == script("keys").page(), "run python scripts/keys.py"


def test_the_table_of_results_is_that_of_the_pages():
    assert script("results_page").with_table(README) == README, "run python scripts/results_page.py"


def test_the_table_of_results_has_a_row_for_each_page_of_five_seeds(tmp_path, monkeypatch):
    pages = script("results_page")
    (folder := tmp_path / "docs" / "results").mkdir(parents=True)
    head = "| result | published | measured | seeds | difference | nonzero | verdict |\n|---|---|---|---|---|---|---|\n"
    rows = "| 2% left | 2.40 | 2.31 ± 0.02 | 5 | -0.09 | 5,724 | reproduced |\n"
    rows += "| 1% left | 9.00 | – | 0 |  |  | not measured |\n"
    text = f"# snip\n\nLee, Ajanthan & Torr 2019, SNIP, arXiv 1, table 1.\n\n{head}{rows}"
    (folder / "snip.md").write_text(text)
    (folder / "early.md").write_text(f"{text}\n\nPreliminary: fewer than five seeds.\n")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    old = "a\n<!-- results: x -->\nold\n<!-- end of results -->\nb\n"
    lines = pages.with_table(old).splitlines()
    cells = "Lee, Ajanthan & Torr 2019 | 2% left | 2.40 | 2.31 ± 0.02 | 5 | reproduced | 1 reproduced, 1 not measured"
    assert lines[4:] == [f"| [snip](docs/results/snip.md) | {cells} |", "<!-- end of results -->", "b"]


def test_a_result_that_is_no_error_has_its_unit():
    (row,) = [line for line in README.splitlines() if line.startswith("| [obs_mlp]")]
    assert re.search(r"gain of more than 20 points .*\| > 20 points \| [\d.]+ ± [\d.]+ points \|", row)
    (row,) = [line for line in README.splitlines() if line.startswith("| [han_lenet300]")]
    assert "points" not in row


def test_the_criterion_of_contributing_scores_by_the_gradient():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    defined = {}
    exec(code, defined)
    model = torch.nn.Linear(2, 3, bias=False)
    data = [(torch.tensor([[1.0, 10.0]]), torch.tensor([0]))]  # the gradient of the second input is ten times as large
    pruner = prunelab.Pruner(model, criterion=defined["slope"], data=data)
    first, second = pruner.score()[0].T
    assert torch.allclose(second, 10 * first)
