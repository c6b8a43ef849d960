"""Points and curves are means over seeds; the front is chosen by validation accuracy."""

import math

import pytest
from fake_runs import a_run, curves_of, rounds, row, run

from prunelab.report import differences
from prunelab.report.curves import Curve, Point, baselines, curves, pareto
from prunelab.report.groups import group
from prunelab.report.run_folders import find_runs


def test_points_are_means_over_seeds_with_their_error(tmp_path):
    (curve,) = curves_of(tmp_path, {"l1": lambda seed, s: (0.80, 0.82, 0.84)[seed]})
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


def many_curves(number: int) -> list[Curve]:
    """Curves s0, s1 …; the worse in validation the better in test."""
    return curves(
        group(
            [
                a_run([f"strategy=s{n}", "seed=0"], final=row(2, 0.5, 0.9 - n / 100, 0.2 + n / 100), folder=str(n))
                for n in range(number)
            ]
        )
    )


def test_the_ninth_curve_has_a_colour_in_a_panel_of_its_own():
    assert [(c.panel, c.colour) for c in many_curves(9)] == [*((0, n) for n in range(1, 9)), (1, 1)]


def test_curves_beyond_all_panels_are_chosen_by_validation_not_by_test():
    """There are four panels of eight curves."""
    assert [c.label for c in many_curves(33) if not c.colour] == ["s32"]


def test_a_dense_network_is_shared_where_it_is_the_same(tmp_path):
    found = curves_of(tmp_path, {"l1": lambda seed, s: 0.8, "global": lambda seed, s: 0.7})
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
