"""Stages: what is in a name, what is reused, what the command line of the store does."""

import functools
import os
import time

import pytest
from conftest import composed, table

from prunelab import compose, run
from prunelab.cli.stages import entries, main
from prunelab.config.resolve import resolve
from prunelab.experiment.bench import Bench
from prunelab.experiment.round import dense, init, prune_and_finetune
from prunelab.pruning.schedules import Round
from prunelab.stages.stage import Stage, State
from prunelab.stages.store import Store


def stage(kind="dense", parent=None, **inputs):
    return Stage(kind, parent, inputs, lambda work: None)


@functools.cache
def names(*more):
    """The names of the dense stage and of the first round's that a config leads to."""
    import torch

    config = compose("data.limit=300", "threads=1", *more)
    bench = Bench(resolve(config), torch.device("cpu"))
    bench.load_data()
    first = dense(bench, State({}, stage=init(bench).name), lambda row: None)
    parent = State({}, stage=first.name)
    return first.name, prune_and_finetune(bench, 1, Round((config.amount,)), parent, None, lambda row: None).name


def test_a_name_is_a_hash_of_everything_and_of_nothing_else():
    assert stage(a=1, b=2).name == stage(b=2, a=1).name
    assert len({stage().name, stage(kind="round").name, stage(parent="x").name, stage(a=1).name, stage(a=2).name}) == 5
    assert stage(a=1).name == stage(a=1, added_later=None).name


def test_a_name_can_be_worked_out_by_hand():
    import hashlib

    text = '{"format":2,"inputs":{"amount":0.2,"seed":0},"kind":"round","parent":"abc"}'
    assert stage("round", "abc", seed=0, amount=0.2, rewind=None).name == hashlib.sha256(text.encode()).hexdigest()[:32]


@pytest.mark.parametrize(
    "override",
    ["strategy=l1", "amount=0.5", "schedule.rounds=9", "finetune.epochs=7", "rewind=0", "prune.include=[fc*.weight]"],
)
def test_the_dense_stage_does_not_read_what_comes_later(override):
    assert names(override)[0] == names()[0]


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "train.epochs=1",
        "train.batch_size=32",
        "optimizer.lr=0.1",
        "optimizer=sgd",
        "data.limit=301",
        "threads=2",
    ],
)
def test_the_dense_stage_reads_what_it_trains_with(override):
    assert names(override)[0] != names()[0]


@pytest.mark.parametrize(
    "override", ["amount=0.5", "strategy=l1", "finetune.epochs=7", "rewind=0", "prune.exclude=[fc3.*]"]
)
def test_a_round_reads_how_it_is_pruned(override):
    assert names(override)[1] != names()[1]


@pytest.mark.parametrize(
    "override", ["schedule.rounds=9", "reuse=false", "outputs=elsewhere", "trusted=[x]", "prune.include=null"]
)
def test_no_stage_reads_what_changes_nothing(override):
    assert names(override) == names()


def reused(result):
    return [row.reused for row in result.rounds]


def test_more_rounds_after_fewer_compute_only_the_rest(tmp_path):
    few = run(composed(tmp_path, "schedule.rounds=2"))
    more = run(composed(tmp_path, "schedule.rounds=4"))
    assert reused(few) == [False] * 3
    assert reused(more) == [True] * 3 + [False] * 2
    columns = ("round", "stage", "test_accuracy", "nonzero", "seconds")
    assert [[getattr(row, c) for c in columns] for row in more.rounds[:3]] == [
        [getattr(row, c) for c in columns] for row in few.rounds
    ]


def test_another_strategy_reuses_the_dense_network(tmp_path):
    run(composed(tmp_path, "schedule.rounds=1"))
    assert reused(run(composed(tmp_path, "schedule.rounds=1", "strategy=l1"))) == [True, False]


def test_without_reuse_all_is_computed_anew_and_comes_out_the_same(tmp_path):
    first = run(composed(tmp_path, "schedule.rounds=1"))
    again = run(composed(tmp_path, "schedule.rounds=1", "reuse=false"))
    assert reused(again) == [False, False]
    assert (first.folder / "model.safetensors").read_bytes() == (again.folder / "model.safetensors").read_bytes()


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

    for _ in range(3):
        run(composed(tmp_path, "schedule.rounds=3"), tmp_path / "run")
    board = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0}).Reload()
    for tag in board.Tags()["scalars"]:
        steps = [event.step for event in board.Scalars(tag)]
        assert len(steps) == len(set(steps)), tag
    assert [event.step for event in board.Scalars("round/sparsity")] == [0, 1, 2, 3]
    assert [row["round"] for row in table(tmp_path / "run" / "rounds.csv")] == ["0", "1", "2", "3"]


# python -m prunelab.stages


@pytest.fixture
def outputs(tmp_path):
    run(composed(tmp_path, "schedule.rounds=2"))
    return tmp_path / "outputs"


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
