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


def longer(accuracy, epochs=4):
    return row(3, 0.0, accuracy, accuracy, epochs=epochs, seconds=5.0)


def test_the_dense_networks_stand_once_in_the_tables_of_a_sweep():
    """Two strategies share one; the third, which rewinds, has another length of training."""
    first = row(0, 0.0, 0.8, 0.8, epochs=3)
    jobs = [
        a_run(
            [f"strategy={name}", f"seed={seed}"],
            folder=f"{name}{seed}",
            dense=first,
            baseline=longer(accuracy + seed / 25, epochs),
        )
        for name, accuracy, epochs in (("l1", 0.9, 6), ("global", 0.9, 6), ("lottery_ticket", 0.7, 1))
        for seed in (0, 1)
    ]
    text = report.sweep_text(jobs)
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip().startswith("dense")]
    told = "dense, 6 epochs (as l1, global)", "0.0% 1.00× 1.00× 92.00% ± 2.00%"
    assert lines[1] == f"{told[0]} {told[1]} 5.0"
    assert lines[4] == f"{told[0]} 2 {told[1]}"
    assert [line.partition(" (")[0] for line in lines] == ["dense, 3 epochs", "dense, 6 epochs", "dense, 1 epoch"] * 2
    assert lines[2].startswith("dense, 1 epoch (as lottery_ticket) 0.0%")
    assert text.count("the sampling of test images is not") == 1
    assert " ".join(text.split()).count("2 seeds: an interval means little; take 5.") == 1
    models = [a_run([f"model={name}"], folder=name, baseline=longer(0.9)) for name in ("lenet", "vit")]
    text = report.sweep_text([*models, a_run(["model=lenet", "amount=0.3"], baseline=longer(0.9))])
    assert "±" not in text
    assert "2 seeds" not in text


@pytest.mark.parametrize("key", ["schedule.macs", "strategy.count"])
def test_how_much_time_or_how_many_layers_go_is_one_curve(key):
    runs = [a_run(["strategy=layer", f"{key}={value}"], folder=value) for value in ("1", "2")]
    (curve,) = curves(group(runs))
    assert (curve.label, len(curve.points)) == (f"{key} varied", 2)
