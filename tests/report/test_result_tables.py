"""Tables have the right numbers, and nothing in them becomes markup or a formula."""

import csv
import io
import math

import pandas as pd
import pytest
from fake_runs import rounds, sweep

from prunelab.report.curves import baselines, curves, final
from prunelab.report.groups import group
from prunelab.report.result_tables import layers, results
from prunelab.report.run_folders import find_runs
from prunelab.report.tables import Table, count, share, words


def test_results_have_means_errors_and_the_dense_network(tmp_path):
    runs = find_runs([sweep(tmp_path, {"l1": lambda seed, s: (0.80, 0.82, 0.84)[seed]})])
    groups = group(runs)
    table = results([(g, final(g)) for g in groups], baselines(curves(groups)))
    dense, l1 = list(csv.DictReader(io.StringIO(table.csv())))
    assert (dense["group"], dense["sparsity"]) == ("dense, 1 epoch (before pruning)", "0.0")
    assert (float(l1["test_accuracy"]), float(l1["test_accuracy_error"])) == pytest.approx((0.82, 0.02 / math.sqrt(3)))
    assert "82.00% ± 1.15%" in table.markdown()


def test_results_have_the_dense_network_that_was_trained_as_long(tmp_path):
    trained = rounds(0, lambda seed, s: 0.91, sparsities=(0.0,) * 4)[-1]
    groups = group(find_runs([sweep(tmp_path, {n: lambda seed, s: 0.8 for n in ("l1", "global")}, baseline=trained)]))
    found = curves(groups)
    table = results([(g, final(g)) for g in groups], baselines(found), baselines(found, longer=True))
    names = ["dense, 1 epoch (before pruning)", "dense, 1 epoch (as l1, global)", "l1", "global"]
    assert list(table.frame["group"]) == names
    assert table.frame["test_accuracy"][1] == pytest.approx(0.91)


def test_layers_are_means_over_seeds(tmp_path):
    table = layers(group(find_runs([sweep(tmp_path, {"l1": lambda seed, s: 0.8})])))
    assert table.csv().splitlines()[0] == "group,sparsity of conv.weight,sparsity of fc.weight"
    assert table.rows[0]["sparsity of fc.weight"] == pytest.approx(0.488)


def test_a_table_escapes_for_each_of_its_forms():
    hostile = "<script>alert(1)</script>|`x`\n# y"
    table = Table("t", "<b>", [words("w", "what"), share("s", "share")], pd.DataFrame([{"w": hostile, "s": 0.5}]))
    last = table.markdown().strip().splitlines()[-1]
    assert last == r"| &lt;script&gt;alert(1)&lt;/script&gt;\|\`x\` # y | 50.0% |"
    assert list(csv.reader(io.StringIO(table.csv()))) == [["w", "s"], [hostile, "0.5"]]


@pytest.mark.parametrize("formula", ["=HYPERLINK(1)", "+1", "-1+x", "@SUM(1)", "\t=1", "＝1"])
def test_a_spreadsheet_runs_no_formula(formula):
    """In a cell, and as the name of a column: both may come from a received run."""
    table = Table("t", "", [], pd.DataFrame([{formula: formula, "n": -1.5}]))
    assert table.csv().splitlines() == [f"'{formula},n", f"'{formula},-1.5"]


def test_a_table_of_dashes_is_left_out_and_so_is_a_column_of_them():
    columns = [
        words("group", "experiment"),
        count("seeds", "seeds"),
        share("sparsity", "sparsity"),
        words("why", "why"),
    ]

    def made(**cells):
        return Table(
            "x", "x", columns, pd.DataFrame([{"group": "l1", "seeds": 3, "sparsity": None, "why": None, **cells}])
        )

    assert not made().measured
    assert made(sparsity=0.0).measured
    assert [c.head for c in made(sparsity=0.0).without_dashes().columns] == ["experiment", "seeds", "sparsity"]
    assert made(why="because").measured
    assert [c.head for c in made(why="because").without_dashes().columns] == ["experiment", "seeds", "why"]
    assert "sparsity" in made(why="because").without_dashes().csv()
