"""The tables at the end of a sweep."""

import json

import pytest
from fake_runs import a_run, sweep

from prunelab import report
from prunelab.report.curves import curves
from prunelab.report.groups import group


def test_the_table_at_the_end_of_a_sweep(tmp_path):
    folder = sweep(tmp_path, {"l1": lambda seed, s: 0.80 + seed / 100, "global": lambda seed, s: 0.9}, seeds=[0, 1])
    (folder / "3" / "summary.json").unlink()
    report.note_failure(folder / "3", "killed\nby a signal")
    text = report.sweep_text(report.read_sweep(folder))
    assert "80.50% ± 0.50%" in text
    assert "job 3 failed: strategy=global seed=1 threads=1: killed" in text
    assert "1 of 4 jobs did not complete" in text
    assert json.loads((folder / "3" / "summary.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("key", ["schedule.macs", "strategy.count"])
def test_how_much_time_or_how_many_layers_go_is_one_curve(key):
    runs = [a_run(["strategy=layer", f"{key}={value}"], folder=value) for value in ("1", "2")]
    (curve,) = curves(group(runs))
    assert (curve.label, len(curve.points)) == (f"{key} varied", 2)
