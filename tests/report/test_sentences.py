"""The sentences of the report say what was compared and what was found."""

from fake_runs import curves_of, rounds, run, sweep, write_csv

from prunelab.report import sentences
from prunelab.report.curves import baselines, curves
from prunelab.report.groups import group
from prunelab.report.run_folders import find_runs


def test_the_headline_says_what_came_out(tmp_path):
    """Better in test, worse in validation does not make a strategy the best; here both agree."""
    noise = (0.001, -0.001, 0.0)
    found = curves_of(
        tmp_path,
        {
            "random": lambda seed, s: 0.70 + noise[seed],
            "global": lambda seed, s: 0.88 - noise[seed] / 2,
            "l1": lambda seed, s: 0.879 + noise[seed] * 2,
        },
    )
    said = sentences.headline(found, baselines(found))
    assert said.startswith("At 48.8% sparsity (1.8× compression) global has the best validation accuracy")
    assert "reaches 88.00% ± 0.03% test accuracy (mean ± standard error of 3 seeds)" in said
    assert "2.1 points below the dense network that it started from (trained for 3 epochs fewer)" in said
    assert "better than random by 18.0 points" in said
    assert "The difference from l1 is not significant" in said


def test_the_headline_compares_with_the_network_trained_as_long_and_not_pruned(tmp_path):
    sweep(tmp_path / "a", {"global": lambda seed, s: 0.88 + seed / 1000})
    for seed in range(3):
        rows = rounds(seed, lambda seed, s: 0.90 + seed / 1000, sparsities=(0.0,) * 4)
        run(tmp_path / "b" / str(seed), ["strategy=l1", "amount=0", f"seed={seed}", "threads=1"], rows)
    found = curves(group(find_runs([tmp_path])))
    said = sentences.headline(found, baselines(found))
    assert "2.0 points below l1 amount=0, which was trained for as many epochs and not pruned" in said


def test_the_headline_compares_with_the_dense_network_trained_as_long(tmp_path):
    trained = rounds(0, lambda seed, s: 0.91, sparsities=(0.0,) * 4)[-1]
    found = curves_of(tmp_path, {"l1": lambda seed, s: 0.88, "global": lambda seed, s: 0.8}, baseline=trained)
    longer = baselines(found, longer=True)
    assert [[curve.label for curve in line.curves] for line in longer] == [["l1", "global"]]
    said = sentences.headline(found, baselines(found), longer)
    assert "3.0 points below the dense network, which was trained for as many epochs and not pruned" in said


def test_a_rewound_network_is_not_said_to_be_trained_as_long(tmp_path):
    sweep(tmp_path / "a", {"ticket": lambda seed, s: 0.88 + seed / 1000}, config={"rewind": "0"})
    sweep(tmp_path / "b", {"zero": lambda seed, s: 0.90})
    for path in (tmp_path / "b").glob("*/rounds.csv"):
        write_csv(path, rounds(0, lambda seed, s: 0.9, sparsities=(0.0,) * 4))
    found = curves(group(find_runs([tmp_path])))
    assert [c.flat for c in found] == [False, True]
    said = sentences.headline(found, baselines(found[:1]))
    assert "trained" not in said
    assert "below the dense network that it started from" in said


def test_what_was_compared_is_one_sentence(tmp_path):
    runs = find_runs([sweep(tmp_path, {"l1": lambda seed, s: 0.8, "global": lambda seed, s: 0.7})])
    said = sentences.compared(runs, group(runs))
    assert said == "Compared: strategy (l1, global), over seeds 0, 1, 2. The same in all runs: model LeNet, threads=1."


def test_no_completed_run_is_said():
    assert sentences.headline([], []) == "No run completed, so there is nothing to compare."
