"""The sentences of the report say what was compared and what was found."""

import pytest
from fake_runs import a_run, curves_of, rounds, row, run, sweep, write_csv
from scipy import stats

from prunelab.report import differences, sentences
from prunelab.report.curves import Curve, baselines, curves
from prunelab.report.groups import group
from prunelab.report.run_folders import find_runs


def headline(found: list[Curve]) -> str:
    """The headline over the table of differences, as the report makes it."""
    table = differences.one_each(differences.all_pairs(found), differences.shared_level(found))
    return sentences.headline(found, baselines(found), baselines(found, longer=True), table)


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
    said = headline(found)
    assert said.startswith("At 48.8% sparsity (1.8× compression) global has the best validation accuracy")
    assert "reaches 88.00% ± 0.03% test accuracy (mean ± standard error of 3 seeds)" in said
    p = stats.ttest_rel([0.8795, 0.8805, 0.88], [0.900, 0.901, 0.902]).pvalue
    tested = f"trained for 3 epochs fewer (p = {p:.2g} by a paired t-test)"
    assert f"2.10 points below the dense network that it started from, {tested}" in said
    how = "In test accuracy on the same seeds (Holm over all 3 comparisons)"
    assert f"{how} it is better than random by 18.00 points; its difference from l1 is not significant." in said


def test_the_headline_repeats_the_verdicts_of_the_table(tmp_path):
    """The difference of the best two is significant among the four pairs with the best one, not among all ten."""
    noise = {"a": (0, 0, 0), "b": (0, 6, 12), "c": (0, 11, 0), "d": (7, 0, 0), "e": (0, 0, 13)}
    level = {"a": 9000, "b": 8972, "c": 8700, "d": 8700, "e": 8700}
    found = curves_of(tmp_path, {n: lambda seed, s, n=n: (level[n] + noise[n][seed]) / 10_000 for n in noise})
    pairs = [pair[0] for pair in differences.all_pairs(found)]
    assert len(pairs) == 10
    assert [d.decided for d in differences.holm(pairs[:4])] == [True] * 4
    assert [d.decided for d in differences.holm(pairs)][:4] == [False, True, True, True]
    assert "(Holm over all 10 comparisons) it is better than c by 2.96" in headline(found)
    assert "its difference from b is not significant" in headline(found)


def test_the_same_difference_on_two_seeds_is_said_and_proves_nothing(tmp_path):
    found = curves_of(tmp_path, {"l1": lambda seed, s: 0.88, "global": lambda seed, s: 0.87}, seeds=[0, 1])
    said = headline(found)
    assert "its difference from global is the same on all seeds, with no spread to test" in said
    assert "better than" not in said
    assert said.endswith("2 seeds: an interval means little; take 5.")


def test_one_seed_may_be_chance(tmp_path):
    found = curves_of(tmp_path, {"l1": lambda seed, s: 0.904, "global": lambda seed, s: 0.8}, seeds=[0])
    said = headline(found)
    told = "0.40 points above the dense network that it started from, trained for 3 epochs fewer"
    assert f"{told} (one seed: may be chance)" in said
    assert said.endswith("With one seed, no statement on significance is possible.")


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (("LeNet", "ViT"), ("mnist", "mnist"), "model"),
        (("LeNet", "LeNet"), ("mnist", "kmnist"), "data"),
        (("LeNet", "ViT"), ("mnist", "kmnist"), "model and data"),
        (("LeNet", "LeNet"), ({"_target_": "mnist"}, {"_target_": "mnist", "limit": 9}), None),  # an older run
        (({"init": "zeros"}, {"init": None}), ("mnist", "mnist"), None),
        (({"width": 4}, {"width": 8}), ("mnist", "mnist"), "model"),
        (("LeNet", "LeNet"), ({"limit": 100}, {"limit": None}), "data"),
    ],
)
def test_unlike_experiments_have_no_best_one(model, data, said):
    runs = [
        a_run([f"n={n}", "seed=0"], folder=str(n), config={"model": model[n], "data": data[n]}, final=row(1, 0.5, a, a))
        for n, a in enumerate((0.8, 0.9))
    ]
    found = headline(curves(group(runs)))
    if said:
        assert found == f"These experiments differ in {said}; no best one is named."
    else:
        assert "n=1 has the best validation accuracy" in found


def test_the_headline_compares_with_the_network_trained_as_long_and_not_pruned(tmp_path):
    sweep(tmp_path / "a", {"global": lambda seed, s: 0.88 + seed / 1000})
    for seed in range(3):
        rows = rounds(seed, lambda seed, s: 0.90 + seed / 1000, sparsities=(0.0,) * 4)
        run(tmp_path / "b" / str(seed), ["strategy=l1", "amount=0", f"seed={seed}", "threads=1"], rows)
    found = curves(group(find_runs([tmp_path])))
    said = headline(found)
    assert "2.00 points below l1 amount=0, which was trained for as many epochs and not pruned" in said


def test_the_headline_compares_with_the_dense_network_trained_as_long(tmp_path):
    trained = rounds(0, lambda seed, s: 0.91, sparsities=(0.0,) * 4)[-1]
    found = curves_of(tmp_path, {"l1": lambda seed, s: 0.88, "global": lambda seed, s: 0.8}, baseline=trained)
    (longer,) = baselines(found, longer=True)
    assert ([curve.label for curve in longer.curves], longer.name) == (
        ["l1", "global"],
        "dense, 1 epoch (as l1, global)",
    )
    told = "3.00 points below the dense network, which was trained for as many epochs and not pruned"
    assert f"{told} (the same difference on all 3 seeds: no spread to test)" in headline(found)


def test_unlike_lengths_of_training_are_said(tmp_path):
    for strategy, epochs in (("l1", 8), ("global", 8), ("lottery_ticket", 1)):
        for seed in range(3):
            trained = {
                **rounds(seed, lambda seed, s: 0.9, (0.0, 0.0))[-1],
                "epochs": epochs,
                "test_accuracy": epochs / 9,
            }
            rows = rounds(seed, lambda seed, s, name=strategy: len(name) / 20)
            config = {"rewind": "0" if epochs == 1 else None}
            given = [f"strategy={strategy}", f"seed={seed}"]
            run(tmp_path / strategy / str(seed), given, rows, baseline=trained, config=config)
    found = curves(group(find_runs([tmp_path])))
    assert "They were not trained equally long: global and l1 for 8 epochs; lottery_ticket for 1 epoch." in headline(
        found
    )
    names = [line.name for line in baselines(found, longer=True)]
    assert names == ["dense, 8 epochs (as global, l1)", "dense, 1 epoch (as lottery_ticket)"]
    assert [line.name for line in baselines(found)] == ["dense, 1 epoch (before pruning)"]


def test_a_rewound_network_is_not_said_to_be_trained_as_long(tmp_path):
    sweep(tmp_path / "a", {"ticket": lambda seed, s: 0.88 + seed / 1000}, config={"rewind": "0"})
    sweep(tmp_path / "b", {"zero": lambda seed, s: 0.90})
    for path in (tmp_path / "b").glob("*/rounds.csv"):
        write_csv(path, rounds(0, lambda seed, s: 0.9, sparsities=(0.0,) * 4))
    found = curves(group(find_runs([tmp_path])))
    assert [c.flat for c in found] == [False, True]
    said = sentences.headline(found, baselines(found[:1]), (), ())
    assert "trained" not in said
    assert "below the dense network that it started from" in said


def test_what_was_compared_is_one_sentence(tmp_path):
    runs = find_runs([sweep(tmp_path, {"l1": lambda seed, s: 0.8, "global": lambda seed, s: 0.7})])
    said = sentences.compared(runs, group(runs))
    assert said == "Compared: strategy (l1, global), over seeds 0, 1, 2. The same in all runs: model LeNet, threads=1."


def test_no_completed_run_is_said():
    assert sentences.headline([], [], [], []) == "No run completed, so there is nothing to compare."
