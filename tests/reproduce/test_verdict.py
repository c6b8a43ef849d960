"""Means, paired differences and verdicts, of summaries that are written by hand."""

from dataclasses import replace

import pytest
from results_page import page

from prunelab.report.run_folders import Run
from prunelab.reproduce.reference import Point, Reference, Value
from prunelab.reproduce.verdict import judge, measure, of_one_size, text


def run(folder, seed, *overrides, error, status="completed"):
    final = {"round": 1, "test_accuracy": 1 - error / 100, "nonzero": 1000}
    return Run(folder, (*overrides, f"seed={seed}"), status, {"seed": seed, "final": final})


def of(*values):
    return Reference("paper", "", "table 1", "claim", "last", "", 1, (), values)


@pytest.mark.parametrize(
    ("mean", "error", "verdict"),
    [
        (1.75, 0.0, "reproduced"),  # within 0.15 points
        (1.76, 0.0, "not reproduced"),
        (1.9, 0.15, "reproduced"),  # within two standard errors
        (1.45, 0.01, "reproduced"),
        (1.44, 0.01, "better"),
        (None, 0.0, "not measured"),
    ],
)
def test_an_error_is_reproduced_within_two_standard_errors_or_the_margin(mean, error, verdict):
    assert judge(Value("x", Point(), published=1.6), mean, error, 5) == verdict


@pytest.mark.parametrize(("mean", "verdict"), [(0.1, "not reproduced"), (0.3, "reproduced"), (0.9, "better")])
def test_of_a_difference_more_is_better(mean, verdict):
    assert judge(Value("x", Point(), Point(round="0"), published=0.3), mean, 0.01, 5) == verdict


@pytest.mark.parametrize(
    ("mean", "error", "seeds", "verdict"),
    [(0.3, 0.1, 5, "reproduced"), (0.2, 0.11, 5, "not reproduced"), (9.0, 0.0, 1, "not reproduced")],
)
def test_a_claim_needs_two_standard_errors_and_two_seeds(mean, error, seeds, verdict):
    assert judge(Value("x", Point(), Point(), more_than=0.0), mean, error, seeds) == verdict


@pytest.mark.parametrize(("mean", "verdict"), [(1.6, "reached"), (1.61, "missed")])
def test_a_goal_is_reached_or_missed(mean, verdict):
    assert judge(Value("x", Point(), published=1.6, goal=True), mean, 1.0, 5) == verdict


def test_runs_are_found_by_overrides_and_paired_by_seed(tmp_path):
    runs = [run(tmp_path, seed, "control=null", error=2.0 + seed) for seed in (0, 1)]
    runs += [run(tmp_path, seed, "control=reinit", error=2.5 + 3 * seed) for seed in (0, 1)]
    runs += [run(tmp_path, 2, "control=null", error=50, status="failed")]
    ticket, other = Point(("control=null",)), Point(("control=reinit",))
    alone, pair = measure(of(Value("a", ticket, published=2.5), Value("b", ticket, other, more_than=0)), runs)
    assert (alone.mean, alone.error, alone.seeds) == (pytest.approx(2.5), pytest.approx(0.5), 2)
    assert (pair.mean, pair.error) == (pytest.approx(1.5), pytest.approx(1.0))  # (0.5, 2.5)
    assert "2.50 ± 0.50" in text([alone, pair])


def test_the_page_says_what_was_run_and_what_was_not(tmp_path):
    where = "outputs=/home/somebody/out"
    runs = [run(tmp_path, seed, "model=lenet", where, error=1.7) for seed in (0, 1)]
    runs.append(run(tmp_path, 2, "model=lenet", where, error=9, status="unfinished"))
    known = of(Value("dense", Point(), published=1.6))
    said = page("preset", known, runs, measure(known, runs))
    assert "prunelab sweep model=lenet seed=0,1,2\n" in said
    assert "| dense | 1.60 | 1.70 ± 0.00 | 2 | +0.10 | 1,000 | reproduced |" in said
    assert "2 of 3 jobs completed" in said
    assert "Not completed: seed=2 (unfinished)." in said
    assert "Preliminary: fewer than five seeds." in said
    assert "somebody" not in said


def test_the_papers_choice_stands_beside_the_last_epoch(tmp_path):
    def chosen(seed, error, best):
        summary = run(tmp_path, seed, error=error).summary
        summary["final"]["best_test_accuracy"] = 1 - best / 100
        return Run(tmp_path, (f"seed={seed}",), "completed", summary)

    known = replace(of(Value("dense", Point(), published=1.6)), choice="best_test_accuracy")
    runs = [chosen(0, 2.4, 1.5), chosen(1, 2.6, 1.7)]
    measured = measure(known, runs)
    assert measured[0].verdict == "not reproduced"  # by the last epoch
    said = page("preset", known, runs, measured)
    assert "| nonzero | verdict | by the paper's choice |\n| --- |" in said
    assert "| 2.50 ± 0.10 | 2 | +0.90 | 1,000 | not reproduced | 1.60 ± 0.10 |" in said
    assert "`by the paper's choice`: at the epoch of the lowest test error" in said
    without = measure(known, [run(tmp_path, 0, error=2.0)])
    assert "choice" not in text(without)


def test_a_round_without_training_has_the_choice_of_the_round_before(tmp_path):
    (tmp_path / "rounds.csv").write_text("round,test_accuracy,best_test_accuracy\n0,0.97,0.98\n1,0.96,\n")
    found = run(tmp_path, 0, error=4.0)
    known = replace(of(Value("dense", Point(), published=1.6)), choice="best_test_accuracy")
    (row,) = measure(known, [found])
    assert row.mean == pytest.approx(4.0)
    assert row.by_choice[0] == pytest.approx(2.0)


def test_a_quick_run_is_neither_judged_nor_compared(tmp_path):
    (row,) = measure(of(Value("a", Point(), published=2.5)), [run(tmp_path, 0, error=40.0)], quick=True)
    assert row.cells() == ["a", "2.50", "40.00", "1", "", "1,000", "quick run"]


@pytest.mark.parametrize(
    ("verdict", "kept", "expected"),
    [
        ("better", 9.3, "not comparable"),  # with four times as many weights
        ("reproduced", 2.8, "not comparable"),
        ("better", 2.7, "better"),  # within a tenth
        ("better", 1.0, "better"),  # with fewer weights all the more
        ("not reproduced", 9.3, "not reproduced"),  # although it has more weights
        ("not reproduced", 2.2, "not comparable"),  # with fewer weights
        ("not reproduced", 2.4, "not reproduced"),
    ],
)
def test_an_error_is_compared_with_that_of_a_network_of_the_same_size(verdict, kept, expected):
    assert of_one_size(verdict, kept, 2.48) == expected


def test_what_the_method_decides_is_read_from_the_runs(tmp_path):
    big = Run(tmp_path, ("seed=0",), "completed", {"seed": 0, "final": {"test_accuracy": 0.98, "sparsity": 0.9}})
    (row,) = measure(of(Value("a", Point(), published=2.31, kept=2.48)), [big])
    assert row.verdict == "not comparable"
