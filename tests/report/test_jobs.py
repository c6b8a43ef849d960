"""The tables at the end of a sweep."""

import json

import pytest
from fake_runs import a_run, row, sweep

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


def longer(stage, accuracy):
    return row(3, 0.0, accuracy, accuracy, stage=stage, epochs=4, seconds=5.0)


def test_the_dense_network_trained_as_long_stands_once_in_the_table_of_a_sweep():
    jobs = [
        a_run([f"strategy={name}", f"seed={seed}"], folder=name, baseline=longer(f"of{seed}", (0.90, 0.94)[seed]))
        for name in ("l1", "global")
        for seed in (0, 1)
    ]
    lines = report.sweep_text(jobs).splitlines()
    shown = [line.split() for line in lines if "trained as long" in line]
    first, second = ("dense, trained as long seed=0", "dense, trained as long seed=1")
    assert shown[0] == [*first.split(), "0.0%", "1.00×", "1.00×", "90.00%", "5.0"]
    assert shown[1] == [*second.split(), "0.0%", "1.00×", "1.00×", "94.00%", "5.0"]
    assert shown[2] == [*["dense,", "trained", "as", "long", "2", "0.0%", "1.00×", "1.00×", "92.00%", "±", "2.00%"]]
    assert len(shown) == 3
    models = [a_run([f"model={name}"], folder=name, baseline=longer(name, 0.9)) for name in ("lenet", "vit")]
    text = report.sweep_text([*models, a_run(["model=lenet", "amount=0.3"], baseline=longer("lenet", 0.9))])
    assert [line.split()[4] for line in text.splitlines() if "trained as long" in line] == ["model=lenet", "model=vit"]


@pytest.mark.parametrize("key", ["schedule.macs", "strategy.count"])
def test_how_much_time_or_how_many_layers_go_is_one_curve(key):
    runs = [a_run(["strategy=layer", f"{key}={value}"], folder=value) for value in ("1", "2")]
    (curve,) = curves(group(runs))
    assert (curve.label, len(curve.points)) == (f"{key} varied", 2)
