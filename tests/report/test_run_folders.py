"""Runs are read from folders of every age, whole or damaged."""

import json

import pytest
from fake_runs import rounds, run, sweep

from prunelab.report import sentences
from prunelab.report.result_tables import failed
from prunelab.report.run_folders import find_runs, number, read_run


def test_sweeps_single_runs_and_folders_of_either_are_found_once(tmp_path):
    swept = sweep(tmp_path / "sweeps" / "one", {"l1": lambda seed, s: 0.9}, seeds=[0, 1])
    single = run(tmp_path / "2026-11-21" / "12-00-00", ["strategy=global", "seed=5"], rounds(5, lambda seed, s: 0.8))
    (tmp_path / "stages" / "abc").mkdir(parents=True)
    (tmp_path / "stages" / "abc" / "rounds.csv").write_text("round\n0\n")
    found = find_runs([tmp_path, swept, single])
    assert [r.folder for r in found] == [single, swept / "0", swept / "1"]
    assert found[0].overrides == ("strategy=global", "seed=5")
    assert [r.seed for r in found] == [5, 0, 1]
    assert [r.sweep for r in found] == [None, swept, swept]


def test_what_is_missing_unfinished_or_failed_is_known(tmp_path):
    folder = sweep(tmp_path / "s", {"l1": lambda seed, s: 0.9}, seeds=[0, 1, 2, 3])
    (folder / "1" / "summary.json").unlink()
    (folder / "2" / "summary.json").write_text('{"status": "running"}')
    (folder / "3" / "summary.json").write_text('{"status": "failed", "error": "amount=1: must be less than 1\\nmore"}')
    runs = find_runs([folder])
    assert [r.status for r in runs] == ["completed", "missing", "unfinished", "failed"]
    table = failed(runs)
    assert table.rows[2]["sentence"] == "amount=1: must be less than 1"
    assert "never started" in table.rows[0]["sentence"]
    assert dict(sentences.counts(runs)) == {"completed": 1, "failed": 1, "missing": 1, "unfinished": 1}


def test_old_and_damaged_folders_are_read_as_far_as_they_go(tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    (old / "rounds.csv").write_text("round,sparsity,test_accuracy\n0,0.0,0.9\n1,0.5,nan\n1,0.5,0.8,surplus\n,,\n")
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "summary.json").write_text('{"status": "completed", "fin')
    (cut / "rounds.csv").write_bytes(b"\xff\xfe\x00")
    listless = tmp_path / "zz"
    run(listless / "0", ["seed=0"], rounds(0, lambda seed, s: 0.8))
    (listless / "sweep.json").write_text("[]")
    cut_run, old_run, of_sweep = find_runs([tmp_path])
    assert (cut_run.status, cut_run.final) == ("missing", {})
    assert {n: r["test_accuracy"] for n, r in old_run.rounds.items()} == {0: 0.9, 1: 0.8}
    assert old_run.final["sparsity"] == 0.5
    assert of_sweep.status == "completed"


def test_a_summary_alone_is_enough(tmp_path):
    folder = run(tmp_path / "a", ["seed=3"], rounds(3, lambda seed, s: 0.7))
    for name in ("rounds.csv", "epochs.csv", "layers.csv"):
        (folder / name).unlink()
    (found,) = find_runs([folder])
    assert sorted(found.rounds) == [0, 3]
    assert found.rounds[3]["test_accuracy"] == 0.7


@pytest.mark.parametrize(
    ("value", "expected"), [("0.5", 0.5), ("", None), ("nan", None), ("inf", None), ([], None), (3, 3.0)]
)
def test_numbers_are_finite_or_none(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize("seed", ["²", "--5", "9" * 5000, "", "x"])
def test_a_seed_that_is_no_number_is_unknown(seed, tmp_path):
    assert read_run(tmp_path, (f"seed={seed}",)).seed == str(tmp_path)


@pytest.mark.parametrize("name", ["../other", "/other", "a/../../other", "a\0b", None, 3])
def test_the_folders_of_a_sweep_are_below_it(name, tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": [["seed=0"]], "folders": [name]}))
    assert find_runs([tmp_path]) == []


def test_a_folder_that_is_a_link_to_itself_is_a_missing_run(tmp_path):
    (tmp_path / "0").symlink_to("0")
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": [["seed=0"]]}))
    assert [run.status for run in find_runs([tmp_path])] == ["missing"]
