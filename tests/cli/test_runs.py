"""`prunelab runs`: what there is, and how two runs differ."""

import json
import shlex
import shutil

import pytest
from fake_runs import sweep

from prunelab.cli import runs
from prunelab.errors import ConfigError


@pytest.fixture
def swept(tmp_path):
    return sweep(tmp_path, {"l1": lambda seed, s: 0.81, "global": lambda seed, s: 0.9})


def test_a_line_says_when_with_what_and_how_it_ended(swept, capsys):
    first = swept / "0" / "summary.json"
    said = json.loads(first.read_text()) | {"started": "2026-11-26T10:00:01+00:00", "status": "interrupted"}
    first.write_text(json.dumps(said))
    assert runs.main([str(swept)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "started", "status", "overrides", "sparsity", "test", "accuracy"]
    (line,) = (line for line in lines if line.startswith(f"{swept / '0'} "))
    assert "2026-11-26 10:00  interrupted  strategy=l1 seed=0" in line
    assert line.endswith("81.00%")
    assert sum("completed" in line and "strategy=global" in line for line in lines) == 3


def test_runs_are_named_by_what_differs_and_a_live_network_by_its_class(tmp_path, capsys):
    for name, words, live in (
        ("a", ["seed=0"], {}),
        ("b", ["seed=0", "amount=0.3"], {}),
        ("c", ["seed=0"], {"model": "Net"}),
    ):
        (tmp_path / name).mkdir()
        written = {"status": "completed", "command": shlex.join(["prunelab", *words]), "started": name, "live": live}
        (tmp_path / name / "summary.json").write_text(json.dumps(written))
    assert runs.main([str(tmp_path)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines[2:]] == ["–", "amount=0.3", "model=Net"]
    assert last == "all with seed=0"
    shutil.rmtree(tmp_path / "b")
    shutil.rmtree(tmp_path / "c")
    assert runs.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[3] == "seed=0"


def test_two_runs_are_compared_by_what_differs(tmp_path, capsys):
    for name, amount, accuracy in (("a", 0.2, 0.8), ("b", 0.5, 0.7)):
        criterion = {"_target_": f"prunelab.pruning.criteria.{name.upper()}"}
        config = {"amount": amount, "seed": 0, "outputs": name, "train": {"epochs": 3}, "criterion": criterion}
        config["latency"] = None if name == "a" else True
        final = {"round": 1, "sparsity": amount, "test_accuracy": accuracy}
        (tmp_path / name).mkdir()
        written = {"status": "completed", "config": config, "final": final}
        (tmp_path / name / "summary.json").write_text(json.dumps(written))
    assert runs.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    cells = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["amount", "0.2", "0.5"] in cells
    assert ["criterion", "A", "B"] in cells
    assert ["latency", "null", "true"] in cells
    assert ["test", "accuracy", "80.00%", "70.00%"] in cells
    assert not [line for line in cells if line[:1] in (["seed"], ["outputs"], ["train.epochs"])]


def test_a_folder_without_runs_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, said in (([], "outputs: no such folder"), (["."], "no runs found")):
        with pytest.raises(ConfigError, match=said):
            runs.main(given)
