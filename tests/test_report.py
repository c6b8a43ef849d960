"""What a report says: read from folders of every age, grouped, paired, and in plain words."""

import csv
import io
import json
import math

import pytest
from fake_runs import rounds, row, run, sweep, write_csv

from prunelab import report
from prunelab.report import costs, differences, findings
from prunelab.report.curves import Point, baselines, curves, final, pareto
from prunelab.report.groups import group, label
from prunelab.report.reading import Run, find_runs, number
from prunelab.report.results import failed, layers, results
from prunelab.report.tables import Column, Table, share, words


def made(tmp_path, accuracies, **how):
    """Curves of a sweep: {strategy: accuracy of (seed, sparsity)}."""
    return curves(group(find_runs([sweep(tmp_path / "sweep", accuracies, **how)])))


def a_run(overrides=(), status="completed", folder="run", **summary):
    """A run that is on no disk."""
    from pathlib import Path

    return Run(Path(folder), tuple(overrides), status, {"final": row(1, 0.5, 0.8, 0.9), **summary})


def point(values, sparsity=0.5, key="test_accuracy"):
    """A point with a value a seed: {seed: value}."""
    rows = {seed: {"sparsity": sparsity, key: value} for seed, value in values.items()}
    return Point(group([a_run(["strategy=x"])])[0], 1, rows)


# Reading


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
    assert [r["sentence"] for r in table.rows][2] == "amount=1: must be less than 1"
    assert "never started" in table.rows[0]["sentence"]
    assert dict(findings.counts(runs)) == {"completed": 1, "failed": 1, "missing": 1, "unfinished": 1}


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


# Grouping


def test_groups_are_named_by_what_differs_but_the_seed():
    jobs = [
        ["strategy=l1", "amount=0.5", "seed=0", "data.limit=9", "outputs=a"],
        ["data.limit=9", "amount=0.5", "strategy=l1", "seed=1", "outputs=b"],
        ["strategy=global", "amount=0.5", "seed=0", "data.limit=9", "+model.width=4"],
    ]
    groups = group([a_run(job) for job in jobs])
    assert [(g.label, [r.seed for r in g.runs]) for g in groups] == [("l1", [0, 1]), ("global model.width=4", [0])]


def test_a_label_says_the_strategy_first_and_how_much_last():
    items = {"amount": "0.5", "criterion": "taylor", "strategy": "l1"}
    assert label(items, items) == "l1 taylor amount=0.5"
    assert label(items, [*items, "model"]) == "l1 criterion=taylor amount=0.5"
    assert label({"criterion": "random", "strategy": "random"}, ["criterion", "strategy"]) != "random random"


def test_a_single_experiment_keeps_its_name():
    assert [g.label for g in group([a_run(["strategy=l1", "seed=0"]), a_run(["strategy=l1", "seed=1"])])] == ["l1"]
    assert [g.label for g in group([a_run(["seed=0"])])] == ["(defaults)"]


def test_an_experiment_without_overrides_of_its_own_is_named_by_its_config():
    given, default = a_run(["amount=0"], config={"amount": 0.0}), a_run([], config={"amount": 0.2}, folder="b")
    assert [g.label for g in group([given, default])] == ["amount=0", "amount=0.2"]


def test_a_repeated_seed_is_no_further_evidence():
    runs = [a_run(["seed=0"], final=row(1, 0.5, 0.8, test), folder=str(test)) for test in (0.8, 0.9)]
    (only,) = group([*runs, a_run(["seed=1"])])
    assert ([r.seed for r in only.runs], only.repeats) == ([0, 1], 1)
    assert only.runs[0].final["test_accuracy"] == 0.9


def test_equal_overrides_composed_differently_are_not_mixed():
    """Defaults change between versions; a key that the older runs lack is no difference."""
    old = a_run(["seed=0"], config={"seed": 0, "lr": 0.1}, folder="a")
    new = a_run(["seed=1"], config={"seed": 1, "lr": 0.2, "criterion": None}, folder="b")
    same = a_run(["seed=2"], config={"seed": 2, "lr": 0.2}, folder="c")
    assert [(g.label, len(g.runs)) for g in group([old, new, same])] == [("lr=0.1", 1), ("lr=0.2", 2)]


def test_unknown_seeds_are_not_taken_for_one():
    runs = [
        Run(folder, (), "completed", {"final": row(1, 0.5, 0.8, 0.9)})
        for folder in map(__import__("pathlib").Path, "ab")
    ]
    assert [len(g.runs) for g in group(runs)] == [2]


# Curves


def test_points_are_means_over_seeds_with_their_error(tmp_path):
    (curve,) = made(tmp_path, {"l1": lambda seed, s: (0.80, 0.82, 0.84)[seed]})
    assert [p.round for p in curve.points] == [0, 1, 2, 3]
    assert curve.last.mean("test_accuracy") == pytest.approx(0.82)
    assert curve.last.error("test_accuracy") == pytest.approx(0.02 / math.sqrt(3))
    assert curve.seeds == 3


def test_one_shot_jobs_over_amounts_are_one_curve(tmp_path):
    for n, (strategy, amount) in enumerate([("l1", 0.8), ("l1", 0.5), ("global", 0.5), ("l1", 0.2)]):
        rows = [row(0, 0.0, 0.9, 0.9), row(1, amount, 0.8, 1 - amount)]
        run(tmp_path / str(n), [f"strategy={strategy}", f"amount={amount}", "schedule=one_shot", "seed=0"], rows)
    one, other = curves(group(find_runs([tmp_path])))
    assert one.label == "l1"
    assert [p.mean("sparsity") for p in one.points] == [0.0, 0.2, 0.5, 0.8]
    assert [p.mean("test_accuracy") for p in one.points] == [0.9, 0.8, 0.5, pytest.approx(0.2)]
    assert [d.sparsity for d in differences.compare(one, other)] == [0.5]


def test_too_many_curves_are_chosen_by_validation_not_by_test():
    """Nine strategies, the worse in validation the better in test: the ninth in validation is grey."""
    runs = [
        a_run([f"strategy=s{n}", "seed=0"], final=row(2, 0.5, 0.9 - n / 100, 0.5 + n / 100), folder=str(n))
        for n in range(9)
    ]
    assert [c.label for c in curves(group(runs)) if not c.colour] == ["s8"]


def test_a_dense_network_is_shared_where_it_is_the_same(tmp_path):
    found = made(tmp_path, {"l1": lambda seed, s: 0.8, "global": lambda seed, s: 0.7})
    (line,) = baselines(found)
    assert line.point.mean("test_accuracy") == pytest.approx((0.900 + 0.901 + 0.902) / 3)
    run(tmp_path / "other", ["strategy=big", "seed=0"], rounds(0, lambda seed, s: 0.8, dense=0.95))
    assert len(baselines(curves(group(find_runs([tmp_path]))))) == 2
    untrained = [row(0, 0.0, 0.1, 0.1, epochs=0), row(1, 0.5, 0.8, 0.8)]
    run(tmp_path / "init" / "0", ["seed=0"], untrained)
    assert baselines(curves(group(find_runs([tmp_path / "init"])))) == []


def test_the_front_is_chosen_by_validation_accuracy():
    sizes = {
        "a": (100, 0.90, 0.10),
        "b": (200, 0.89, 0.99),
        "c": (200, 0.95, 0.50),
        "d": (300, 0.95, 0.60),
        "e": (50, 0.2, 0.2),
    }
    points = {
        name: Point(group([a_run()])[0], 1, {0: {"nonzero": float(n), "val_accuracy": v, "test_accuracy": t}})
        for name, (n, v, t) in sizes.items()
    }
    front = pareto(points.values())
    assert [name for name, p in points.items() if p in front] == ["a", "c", "e"]
    assert [p.mean("nonzero") for p in front] == [50, 100, 200]


# Differences

# Student's t, two-sided, from the tables in every textbook (e.g. Abramowitz & Stegun, table 26.10).
T_95 = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    9: 2.262,
    10: 2.228,
    15: 2.131,
    30: 2.042,
    120: 1.980,
}
T_99 = {1: 63.657, 2: 9.925, 4: 4.604, 9: 3.250, 30: 2.750}


@pytest.mark.parametrize(("level", "known"), [(0.95, T_95), (0.99, T_99)])
def test_t_quantiles_are_those_of_the_tables(level, known):
    assert {n: round(differences.t_quantile(n, level), 3) for n in known} == known


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 20])
def test_t_probability_is_the_integral_of_the_density(freedom):
    """An independent oracle: Simpson's rule on the density."""
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    xs = [1.7 * i / 200 for i in range(201)]
    ys = [scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2) for x in xs]
    simpson = 1.7 / 600 * (ys[0] + ys[-1] + 4 * sum(ys[1:-1:2]) + 2 * sum(ys[2:-1:2]))
    assert differences.t_probability(1.7, freedom) == pytest.approx(2 * simpson, abs=1e-7)


def test_a_difference_is_paired_by_seed():
    """Differences 0.010, 0.012, 0.011: mean 0.011, deviation 0.001, half width 4.3027 · 0.001 / √3 = 0.002484."""
    a = point({0: 0.950, 1: 0.900, 2: 0.850, 9: 0.1})
    b = point({2: 0.839, 1: 0.888, 0: 0.940, 7: 0.9}, sparsity=0.504)
    d = differences.difference(("a", a), ("b", b))
    assert (d.seeds, d.sparsity) == (3, pytest.approx(0.502))
    assert (d.mean, d.low, d.high) == pytest.approx((0.011, 0.011 - 0.002484, 0.011 + 0.002484), abs=1e-6)
    assert d.verdict == "a is better by 1.1 points (3 seeds)"
    assert differences.difference(("b", b), ("a", a)).verdict == "a is better by 1.1 points (3 seeds)"


def test_verdicts_in_plain_words():
    """Differences 0.01, 0.02, 0.01: mean 0.01333, half width 4.3027 · 0.0057735 / √3 = 0.01434: zero lies within."""
    a, b = point({0: 0.95, 1: 0.96, 2: 0.97}), point({0: 0.94, 1: 0.94, 2: 0.96})
    d = differences.difference(("a", a), ("b", b))
    assert d.low == pytest.approx(0.013333 - 0.014342, abs=1e-5)
    assert d.verdict == "not distinguishable on 3 seeds"
    assert differences.difference(("a", a), ("c", a)).verdict == "the same on 3 seeds"
    one = differences.difference(("a", point({0: 0.9})), ("b", point({0: 0.8})))
    assert (one.low, one.decided, one.verdict) == (None, False, "one seed: no verdict possible")


def test_only_equal_sparsities_are_compared():
    a = point({0: 0.9, 1: 0.9})
    assert differences.difference(("a", a), ("b", point({0: 0.9, 1: 0.9}, sparsity=0.505))) is not None
    assert differences.difference(("a", a), ("b", point({0: 0.9, 1: 0.9}, sparsity=0.506))) is None
    assert differences.difference(("a", a), ("b", point({5: 0.9}))) is None


def test_curves_are_compared_where_both_have_the_sparsity_and_never_at_the_dense_network(tmp_path):
    found = made(tmp_path, {"l1": lambda seed, s: 0.8 + seed / 100, "global": lambda seed, s: 0.9 + seed / 100})
    ((first, *others),) = differences.all_pairs(found)
    assert [d.sparsity for d in (first, *others)] == pytest.approx([0.488, 0.36, 0.2])
    assert first.verdict == "global is better by 10.0 points (3 seeds)"


# Sentences


def test_the_headline_says_what_came_out(tmp_path):
    """Better in test, worse in validation does not make a strategy the best; here both agree."""
    noise = (0.001, -0.001, 0.0)
    found = made(
        tmp_path,
        {
            "random": lambda seed, s: 0.70 + noise[seed],
            "global": lambda seed, s: 0.88 - noise[seed] / 2,
            "l1": lambda seed, s: 0.879 + noise[seed] * 2,
        },
    )
    said = findings.headline(found, baselines(found))
    assert said.startswith("At 48.8% sparsity (1.8× compression) global is best in validation, with 88.00% ± 0.03%")
    assert "2.1 points below the dense network that it started from (trained for 3 epochs fewer)" in said
    assert "better than random by 18.0 points" in said
    assert "cannot be told apart from l1" in said


def test_the_headline_compares_with_the_network_trained_as_long_and_not_pruned(tmp_path):
    sweep(tmp_path / "a", {"global": lambda seed, s: 0.88 + seed / 1000})
    for seed in range(3):
        rows = rounds(seed, lambda seed, s: 0.90 + seed / 1000, sparsities=(0.0,) * 4)
        run(tmp_path / "b" / str(seed), ["strategy=l1", "amount=0", f"seed={seed}", "threads=1"], rows)
    found = curves(group(find_runs([tmp_path])))
    said = findings.headline(found, baselines(found))
    assert "2.0 points below l1 amount=0, trained as long and not pruned" in said


def test_a_rewound_network_is_not_said_to_be_trained_as_long(tmp_path):
    sweep(tmp_path / "a", {"ticket": lambda seed, s: 0.88 + seed / 1000}, config={"rewind": "0"})
    sweep(tmp_path / "b", {"zero": lambda seed, s: 0.90})
    for path in (tmp_path / "b").glob("*/rounds.csv"):
        write_csv(path, rounds(0, lambda seed, s: 0.9, sparsities=(0.0,) * 4))
    found = curves(group(find_runs([tmp_path])))
    assert [c.flat for c in found] == [False, True]
    said = findings.headline(found, baselines(found[:1]))
    assert "trained" not in said
    assert "below the dense network that it started from" in said


def test_what_was_compared_is_one_sentence(tmp_path):
    runs = find_runs([sweep(tmp_path, {"l1": lambda seed, s: 0.8, "global": lambda seed, s: 0.7})])
    said = findings.compared(runs, group(runs))
    assert said == "Compared: strategy (l1, global), over seeds 0, 1, 2. The same in all runs: model LeNet, threads=1."


def test_no_completed_run_is_said():
    assert findings.headline([], []) == "No run completed, so there is nothing to compare."


# Tables


def test_results_have_means_errors_and_the_dense_network(tmp_path):
    runs = find_runs([sweep(tmp_path, {"l1": lambda seed, s: (0.80, 0.82, 0.84)[seed]})])
    groups = group(runs)
    table = results([(g, final(g)) for g in groups], baselines(curves(groups)))
    dense, l1 = list(csv.DictReader(io.StringIO(table.csv())))
    assert (dense["group"], dense["sparsity"]) == ("dense network", "0.0")
    assert (float(l1["test_accuracy"]), float(l1["test_accuracy_error"])) == pytest.approx((0.82, 0.02 / math.sqrt(3)))
    assert "82.00% ± 1.15%" in table.markdown()
    assert "82.00% ± 1.15%" in table.html()


def test_layers_are_means_over_seeds(tmp_path):
    table, names = layers(group(find_runs([sweep(tmp_path, {"l1": lambda seed, s: 0.8})])))
    assert names == ["@conv.weight", "@fc.weight"]
    assert table.rows[0]["@fc.weight"] == pytest.approx(0.488)


def test_a_table_escapes_for_each_of_its_forms():
    hostile = "<script>alert(1)</script>|`x`\n# y"
    table = Table("t", "<b>", [words("w", "what"), share("s", "share")], [{"w": hostile, "s": 0.5}], ["w", "s"])
    assert "<script" not in table.html()
    assert "<b>" not in table.html()
    last = table.markdown().strip().splitlines()[-1]
    assert last == r"| &lt;script&gt;alert(1)&lt;/script&gt;\|\`x\` # y | 50.0% |"
    assert list(csv.reader(io.StringIO(table.csv()))) == [["w", "s"], [hostile, "0.5"]]


def test_a_spreadsheet_runs_no_formula():
    table = Table("t", "", [Column("w", lambda row: "", words=True)], [{"w": "=HYPERLINK(1)", "n": -1.5}], ["w", "n"])
    assert table.csv().splitlines()[1] == "'=HYPERLINK(1),-1.5"


# What sweeps.py uses, as before


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


# Costs


def cost_row(form, nonzero, speedup=None, why=None, threads=1):
    """A row of a cost card."""
    sizes = {"parameters": 1000, "nonzero": nonzero, "macs": 5000, "macs_nonzero": 5 * nonzero}
    row = {"form": form, **sizes, "bytes": 4000, "gzipped": 3 * nonzero, "peak_bytes": None, "why_no_faster": why}
    if speedup is not None:
        row |= {f"speedup_{n}": [speedup * n, 0.1, 900.0] for n in (1, 256)}
        row |= {f"latency_{n}_ms": [n / speedup, 0.1, 900.0] for n in (1, 256)} | {"threads": threads}
    return row


def test_costs_are_means_over_seeds_and_the_same_dense_network_stands_once():
    cards = [[cost_row("dense", 1000), cost_row("masked", nonzero)] for nonzero in (400, 600, 300)]
    runs = [
        a_run([f"strategy={name}", f"seed={seed}"], seed=seed, cost=card)
        for (name, seed), card in zip((("l1", 0), ("l1", 1), ("global", 0)), cards, strict=True)
    ]
    found = costs.sizes(group(runs)).rows
    shown = [(row["group"], row["form"], row["seeds"], row["nonzero"], row["macs_nonzero"]) for row in found]
    assert shown == [
        ("l1", "dense", 2, 1000, 5000),  # of another number of seeds than the next one
        ("l1", "masked", 2, 500, 2500),
        ("global", "dense", 1, 1000, 5000),
        ("global", "masked", 1, 300, 1500),
    ]
    runs = [a_run([f"strategy={name}"], cost=card) for name, card in zip(("l1", "global"), cards, strict=False)]
    other = a_run(["strategy=lamp"], cost=[cost_row("dense", 999)])
    names = [row["group"] for row in costs.sizes(group([*runs, other])).rows if row["form"] == "dense"]
    assert names == ["l1", "global", "lamp"]  # not the same in all
    found = costs.sizes(group(runs))
    assert [(row["group"], row["form"]) for row in found.rows] == [
        ("all experiments", "dense"),
        ("l1", "masked"),
        ("global", "masked"),
    ]
    assert "| l1 | masked | 1 | 1,000 | 400 | 5,000 | 2,000 | 4,000 | 1,200 | – |" in found.markdown()


def test_times_are_of_the_seeds_that_were_timed():
    why = "no speed-up: masks are multiplied in, nothing is skipped"
    cards = [
        [cost_row("dense", 1000, 1.0), cost_row("masked", 400, 0.5, why), cost_row("csr", 400, 3.0)],
        [cost_row("dense", 1000, 1.0), cost_row("masked", 400, 0.7, why), cost_row("csr", 400, 2.0)],
        [cost_row("dense", 1000), cost_row("masked", 400, None, why)],
    ]
    runs = [a_run([f"seed={seed}"], seed=seed, cost=card) for seed, card in enumerate(cards)]
    table = costs.times(group(runs))
    masked, csr = table.rows[1:]
    assert (masked["seeds"], masked["speedup_1"], masked["why_no_faster"]) == (2, pytest.approx(0.6), why)
    assert (csr["seeds"], csr["speedup_256"], csr["latency_1_ms"]) == (2, 640.0, pytest.approx((1 / 3 + 1 / 2) / 2))
    assert (csr["speedup_1_error"], csr["latency_1_ms_error"]) == (pytest.approx(0.5), pytest.approx(1 / 12))
    assert "| csr | 2 | 0.417 ± 0.083 | 2.50× ± 0.50 | 107 ± 21 | 640.00× ± 128.00 |  |" in table.markdown()
    assert table.title.endswith("mean ± standard error over seeds; threads: 1")
    (row,) = costs.times(group(runs[2:])).rows
    assert (row["form"], row["seeds"], row["speedup_1"], row["why_no_faster"]) == (
        "masked",
        0,
        None,
        why,
    )


def times_of(*rows):
    runs = [a_run([f"seed={seed}"], seed=seed, cost=[row]) for seed, row in enumerate(rows)]
    return costs.times(group(runs))


def test_one_seed_has_no_standard_error_and_threads_are_those_of_all():
    (row,) = times_of(cost_row("csr", 400, 2.0, threads=4)).rows
    assert (row["speedup_1_error"], row["threads"]) == (None, "4")
    table = times_of(cost_row("csr", 400, 2.0, threads=4), cost_row("csr", 400, 2.0, threads=1))
    assert table.title.endswith("; threads: 1 or 4")
    assert "| csr | 2 | 0.500 | 2.00× | 128 | 512.00× |  |" in table.markdown()


@pytest.mark.parametrize(
    ("sentences", "said"),
    [
        (["slow", None, None], None),  # the others are faster
        (["slow", None], None),
        (["slow", "slow", None], "slow (in 2 of 3 seeds)"),
        (["other", "slow", "slow"], "slow (in 2 of 3 seeds)"),
        (["slow", "slow", "slow"], "slow"),
        (["57% of it", "57% of it"], "57% of it"),
        (["58% of it", "9% of it", "57% of it", None], "9–58% of it (in 3 of 4 seeds)"),
    ],
)
def test_the_sentence_is_that_of_most_seeds(sentences, said):
    (row,) = times_of(*(cost_row("csr", 400, 1.0, why) for why in sentences)).rows
    assert row["why_no_faster"] == said


@pytest.mark.parametrize("junk", [None, 3, {}, [3, None], [{}], [{"form": 3}], [{"form": "a", "bytes": "x"}]])
def test_no_card_is_too_odd(junk):
    found = group([a_run(cost=junk)])
    assert [row["form"] for row in costs.sizes(found).rows] in ([], ["a"])
    assert costs.times(found).rows == []
