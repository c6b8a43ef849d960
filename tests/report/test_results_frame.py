"""`prunelab.results`: one row per run, one column per key that differs and per number of the final round."""

import json
import sys

import pandas as pd
import pytest
from fake_runs import rounds, run, sweep

from prunelab.report.results_frame import results


def test_a_sweep_is_one_row_per_run_with_numbers_as_numbers(tmp_path):
    sweep(tmp_path, {"l1": lambda seed, s: 0.8 + seed / 100, "global": lambda seed, s: 0.7})
    frame = results(tmp_path)
    assert list(frame.columns[:6]) == ["folder", "status", "seed", "strategy", "round", "sparsity"]
    assert list(frame["strategy"]) == ["l1"] * 3 + ["global"] * 3
    assert list(frame["seed"]) == [0, 1, 2, 0, 1, 2]
    assert list(frame["nonzero"]) == [1000 - round(900 * 0.488)] * 6
    assert frame.groupby("strategy")["test_accuracy"].mean()["l1"] == pytest.approx(0.81)
    assert list(frame["seconds"]) == [2.0] * 6  # of the whole run
    assert "threads" in frame
    assert frame.columns.is_unique


def test_keys_that_differ_are_columns_and_have_types(tmp_path):
    config = {
        "strategy": {"_target_": "prunelab.strategies.l1"},
        "amount": 0.2,
        "compact": False,
        "model": {"width": 4},
    }
    run(tmp_path / "0", ["seed=0"], rounds(0, lambda seed, s: 0.8), config=config)
    run(tmp_path / "1", ["amount=0.5", "compact=true", "model.width=8"], rounds(0, lambda seed, s: 0.8), config=config)
    run(tmp_path / "2", ["strategy=erk", "amount=null"], rounds(0, lambda seed, s: 0.8), config=config)
    frame = results(tmp_path)
    assert list(frame["strategy"]) == ["l1", "l1", "erk"]  # of a run that does not override it, from its config
    assert list(frame["compact"]) == [False, True, False]
    assert list(frame["model.width"]) == [4, 8, 4]
    assert list(frame["amount"])[:2] == [0.2, 0.5]  # the key, not the amount of the last round
    assert pd.isna(frame["amount"][2])


def test_runs_without_a_result_have_missing_values(tmp_path):
    folder = sweep(tmp_path / "s", {"l1": lambda seed, s: 0.8}, seeds=[0, 1])
    (folder / "1" / "summary.json").write_text(json.dumps({"status": "failed", "error": "x"}))
    (folder / "1" / "rounds.csv").unlink()
    frame = results(str(folder))
    assert list(frame["status"]) == ["completed", "failed"]
    assert list(frame["seed"]) == [0, 1]
    assert frame["test_accuracy"].isna().tolist() == [False, True]
    assert str(frame["nonzero"].dtype) == "Int64"


def test_an_empty_folder_is_an_empty_frame(tmp_path):
    frame = results(tmp_path)
    assert len(frame) == 0
    assert {"folder", "strategy", "test_accuracy", "seconds"} <= set(frame)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        results(tmp_path / "nowhere")


def test_without_pandas_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "prunelab\[report\]"'):
        results(tmp_path)
