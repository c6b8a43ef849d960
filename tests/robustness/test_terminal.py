"""What a stranger has written is printed with its control characters visible: no command obeys the terminal's codes."""

import ast
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
from conftest import overrides
from safetensors.torch import save_file

import prunelab
from prunelab import report
from prunelab.text import table, visible

BAD = "\x1b[2J\x9b1m\x07\b\u202etxt\u2066\u2028\u200f\x7f\rFORGED\nFORGED"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|^FORGED", re.MULTILINE)
FEW = ("schedule.rounds=1", "threads=1")


def poisoned(node: object, only: str = "", at: str = "") -> object:
    """Plain data whose texts all end in BAD, their keys too; or the text at one dotted key."""
    if isinstance(node, dict):
        return {
            key + (BAD if not only and at else ""): poisoned(value, only, f"{at}.{key}") for key, value in node.items()
        }
    if isinstance(node, list):
        return [poisoned(value, only, at) for value in node]
    return node + BAD if isinstance(node, str) and (not only or at == f".{only}") else node


@pytest.fixture(scope="module")
def home(cli, tmp_path_factory):
    """A run, and a sweep of two copies of it; nobody changes them."""
    folder = tmp_path_factory.mktemp("home")
    done = cli(*overrides(folder, *FEW, "hydra.run.dir=run"), cwd=folder)
    assert done.returncode == 0, done.stderr
    for number in range(2):
        shutil.copytree(folder / "run", folder / "sweep" / str(number))
    (folder / "sweep" / "sweep.json").write_text(json.dumps({"jobs": [[*overrides(folder, *FEW)]] * 2}))
    return folder


@pytest.fixture
def gift(home, tmp_path):
    shutil.copytree(home, tmp_path / "gift")
    return tmp_path / "gift"


def change(path, how):
    path.write_text(json.dumps(how(json.loads(path.read_text()))))


def check(cli, folder, *words):
    """Run a command; what it prints must be harmless, and one line if it fails. Return that."""
    done = cli(*words, cwd=folder)
    text = done.stdout + done.stderr
    assert not OBEYED.search(text), (words, text)
    assert "Traceback" not in text
    assert len(done.stderr.splitlines()) <= 1
    return text


@pytest.mark.parametrize("where", ["run", "sweep", "both"])
def test_runs_and_reports_of_a_strangers_texts(where, cli, gift):
    for path in (path for path in gift.rglob("*.json") if "stages" not in path.parts):
        keep = {"status": "completed"} if path.name == "summary.json" else {}
        change(path, lambda said, keep=keep: poisoned(said) | keep)
    folders = [gift / name for name in (("run", "sweep") if where == "both" else (where,))]
    said = check(cli, gift, "runs", *map(str, folders))
    assert where == "sweep" or "\\x1b[2J" in said  # the jobs of another list are not shown
    check(cli, gift, "report", *map(str, folders), "--out", "page.html")
    for page in gift.glob("page*"):
        assert not OBEYED.search(page.read_bytes().decode().replace("\nFORGED", "")), page  # in a cell of a CSV file


def test_failed_jobs_of_a_stranger(cli, gift):
    change(gift / "sweep" / "0" / "summary.json", lambda said: said | {"status": "failed" + BAD, "error": BAD})
    change(gift / "sweep" / "1" / "summary.json", lambda said: said | {"problems": [BAD]})
    assert "\\x1b[2J" in check(cli, gift, "runs", "sweep")
    assert not OBEYED.search(report.sweep_text(report.read_sweep(gift / "sweep")))


KEYS = ("model._target_", "data._target_", "strategy.name", "criterion._target_", "optimizer._target_")


@pytest.mark.parametrize("command", ["compact", "export"])
@pytest.mark.parametrize("key", [*KEYS[:2], *(pytest.param(key, marks=pytest.mark.slow) for key in KEYS[2:])])
def test_a_network_of_a_stranger(key, command, cli, gift):
    change(gift / "run" / "summary.json", lambda said: poisoned(said, f"config.{key}"))
    check(cli, gift, command, "run")
    if key.startswith("model"):
        check(cli, gift, "inspect", f"{key}=torch.nn.{BAD}")


def test_stages_of_a_stranger(cli, gift):
    for path in (gift / "outputs" / "stages").glob("*/stage.json"):
        change(path, poisoned)
    assert "\\x1b[2J" in check(cli, gift, "stages")
    said = cli("stages", "verify", cwd=gift)
    assert not OBEYED.search(said.stdout + said.stderr)


def test_the_list_of_a_strangers_sweep(cli, gift):
    change(gift / "sweep" / "sweep.json", poisoned)
    words = overrides(gift, *FEW, "hydra.sweep.dir=sweep", "seed=0,1", "hydra/launcher=basic")
    assert "holds another sweep" in check(cli, gift, "-m", *words)


@pytest.mark.parametrize("kind", ["pt", "safetensors", "pruned"])
def test_a_strangers_checkpoint(kind, cli, tmp_path):
    state = {f"layer{BAD}": torch.ones(2)}
    if kind == "safetensors":
        save_file(state, tmp_path / "weights")
    else:
        torch.save({f"state{BAD}": state} if kind == "pt" else {f"x{BAD}_orig": torch.ones(2)}, tmp_path / "weights")
    assert "\\x1b[2J" in check(cli, tmp_path, *overrides(tmp_path, "model.checkpoint=weights"))


@pytest.mark.slow
def test_a_strangers_study(cli, tmp_path):
    pytest.importorskip("optuna")
    how = ["search", "amount=interval(0.1,0.5)", *overrides(tmp_path, *FEW), "--trials", "1"]
    assert cli(*how, cwd=tmp_path).returncode == 0
    database = tmp_path / "outputs" / "searches" / "search.db"
    changes = {
        "overrides": json.dumps([f"amount=interval(0.1,0.5){BAD}"]),
        "objective": json.dumps(f"nonzero{BAD}"),
    }
    for key, value in changes.items():
        shutil.copy(database, tmp_path / "kept.db")
        with sqlite3.connect(database) as connection:
            connection.execute("update study_user_attributes set value_json=? where key=?", (value, key))
        check(cli, tmp_path, "search", f"outputs={tmp_path / 'outputs'}", "--trials", "2")
        shutil.copy(tmp_path / "kept.db", database)
    with sqlite3.connect(database) as connection:
        connection.execute("update trial_user_attributes set value_json=? where key='chosen'", (json.dumps([BAD]),))
    check(cli, tmp_path, "search", f"outputs={tmp_path / 'outputs'}", "--trials", "1")


@pytest.mark.slow
def test_a_strangers_config_folder(cli, tmp_path):
    group = tmp_path / "cfg" / "experiment"
    group.mkdir(parents=True)
    (group / "e.yaml").write_text(f"# @package _global_\nstrategy: {{name: {json.dumps(BAD)}}}\n")
    (group / f"{BAD}.yaml").write_text("defaults: ['${oc.env:HOME}']\n")
    check(cli, tmp_path, "--config-dir", str(tmp_path / "cfg"), "experiment=e", *overrides(tmp_path))
    (group / f"{BAD}.yaml").unlink()
    check(cli, tmp_path, "--config-dir", str(tmp_path / "cfg"), "experiment=e", *overrides(tmp_path))


def test_what_is_seen_stays_as_it_is():
    text = "Größe ≈ 3 · «é» 中文 🙂\n\tnext"
    assert visible(text) == text
    assert visible("a\tb\nc", "") == "a\\tb\\nc"
    assert visible("\x1b[0m\udcff") == "\\x1b[0m\\udcff"
    assert table(["a\nb"], [["\x1b"]]).splitlines() == ["a\\nb", "────", "\\x1b"]


PRINTING = {"runtime/streams.py": ["print"], "tracking/console.py": ["write", "write"]}


def test_everything_is_printed_in_one_place():
    """No file prints by itself; the two of the console make their text visible."""
    root = Path(prunelab.__file__).parent
    for path in (path for path in root.rglob("*.py") if re.search(r"print\(|write\(", path.read_text())):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        named = [ast.unparse(call.func) for call in calls]
        found = [
            name.rpartition(".")[2]
            for name in named
            if name == "print" or re.fullmatch(r"(tqdm|sys\.std\w+)\.write", name)
        ]
        assert found == PRINTING.get(path.relative_to(root).as_posix(), []), path
