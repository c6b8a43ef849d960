"""Stages: what is in a name, what is reused, what the command line of the store does."""

import os
import shutil
import time

import pytest
from conftest import composed, table

from prunelab import compose, run
from prunelab.cli.stages import entries, main
from prunelab.config.resolve import resolve
from prunelab.stages.stage import Stage
from prunelab.stages.store import Store


def stage(kind="dense", parent=None, **inputs):
    return Stage(kind, parent, inputs, lambda work: None)


def test_a_name_is_a_hash_of_everything_and_of_nothing_else():
    assert stage(a=1, b=2).name == stage(b=2, a=1).name
    assert len({stage().name, stage(kind="round").name, stage(parent="x").name, stage(a=1).name, stage(a=2).name}) == 5
    assert stage(a=1).name == stage(a=1, added_later=None).name


def test_a_name_can_be_worked_out_by_hand():
    import hashlib

    text = '{"format":2,"inputs":{"amount":0.2,"seed":0},"kind":"round","parent":"abc"}'
    assert stage("round", "abc", seed=0, amount=0.2, rewind=None).name == hashlib.sha256(text.encode()).hexdigest()[:32]


def test_an_edited_model_is_another_model(tmp_path, monkeypatch):
    import sys

    source = "from torch import nn\n\nclass Net(nn.Sequential):\n    pass\n"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    chosen = ("model._target_=edited.Net", "trusted=[edited]")
    (tmp_path / "edited.py").write_text(source)
    before = resolve(compose(*chosen)).model.identity
    assert resolve(compose(*chosen)).model.identity == before
    (tmp_path / "edited.py").write_text(source + "# another\n")
    assert resolve(compose(*chosen)).model.identity != before


def test_a_run_into_the_same_folder_shows_each_tag_and_step_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        run(composed(tmp_path, "schedule.rounds=2"), tmp_path / "run")
    board = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0}).Reload()
    for tag in board.Tags()["scalars"]:
        steps = [event.step for event in board.Scalars(tag)]
        assert len(steps) == len(set(steps)), tag
    assert [event.step for event in board.Scalars("round/sparsity")] == [0, 1, 2]
    assert [row["round"] for row in table(tmp_path / "run" / "rounds.csv")] == ["0", "1", "2"]


# python -m prunelab.stages


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    run(composed(folder, "schedule.rounds=2"))
    return folder / "outputs"


@pytest.fixture
def outputs(stored, tmp_path):
    """A folder with the four stages of a run, which the test may change."""
    return shutil.copytree(stored, tmp_path / "outputs")


def cli(outputs, *arguments):
    return main(["--outputs", str(outputs), *arguments])


def test_list_shows_the_chain(outputs, capsys):
    assert cli(outputs) == 0
    text = capsys.readouterr().out
    found = {entry.inputs.get("round", entry.kind): entry for entry in entries(outputs / "stages")}
    assert found["init"].parent == ""
    assert found["dense"].parent == found["init"].name
    assert found[1].parent == found["dense"].name
    assert found[2].parent == found[1].name
    assert all(entry.name[:12] in text for entry in found.values())
    assert "4 stages" in text


def test_verify_finds_the_damaged_one(outputs, capsys):
    assert cli(outputs, "verify") == 0
    target = entries(outputs / "stages")[0]
    (target.folder / "round.json").write_bytes(b"{}")
    assert cli(outputs, "verify") == 1
    assert "3 whole, 1 damaged" in capsys.readouterr().out
    assert not target.folder.exists()


def test_remove_by_config_age_and_size(outputs, capsys):
    root = outputs / "stages"
    assert cli(outputs, "remove", "--where", "round=2", "--dry-run") == 0
    assert len(entries(root)) == 4
    assert cli(outputs, "remove", "--where", "round=2") == 0
    assert len(entries(root)) == 3
    old = entries(root)[0].folder
    os.utime(old, (time.time() - 3 * 86400,) * 2)
    assert cli(outputs, "remove", "--older-than", "2d") == 0
    assert not old.exists()
    assert len(entries(root)) == 2
    assert cli(outputs, "remove", "--down-to", "10GB") == 0
    assert len(entries(root)) == 2
    assert cli(outputs, "remove", "--down-to", "0B") == 0
    assert entries(root) == []
    capsys.readouterr()


def test_remove_needs_to_be_told_which(outputs, capsys):
    with pytest.raises(SystemExit):
        cli(outputs, "remove")
    assert "needs --older-than, --down-to, --where or --all" in capsys.readouterr().err


def test_a_stage_in_use_stays(outputs, capsys):
    target = entries(outputs / "stages")[0]
    with Store(outputs / "stages").lock(target.name):
        assert cli(outputs, "remove", "--all") == 0
    assert [entry.name for entry in entries(outputs / "stages")] == [target.name]
    assert "in use" in capsys.readouterr().err
