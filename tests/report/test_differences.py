"""Differences are paired by seed and by sparsity; intervals are those of Student's t."""

import math

import numpy as np
import pytest
from fake_runs import a_run, curves_of, point, rounds, row, run
from scipy import stats
from statsmodels.stats.multitest import multipletests

from prunelab.report import differences
from prunelab.report.curves import curves
from prunelab.report.groups import group
from prunelab.report.run_folders import find_runs

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
def test_t_quantiles_invert_the_integral_of_the_density(freedom):
    """An independent oracle: Simpson's rule on the density, from −t to t."""
    t = differences.t_quantile(freedom, 0.8)
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    xs = [t * i / 400 for i in range(401)]
    ys = [scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2) for x in xs]
    simpson = t / 1200 * (ys[0] + ys[-1] + 4 * sum(ys[1:-1:2]) + 2 * sum(ys[2:-1:2]))
    assert 2 * simpson == pytest.approx(0.8, abs=1e-7)


def test_a_difference_is_paired_by_seed():
    """Differences 0.010, 0.012, 0.011: mean 0.011, deviation 0.001, half width 4.3027 · 0.001 / √3 = 0.002484."""
    a = point({0: 0.950, 1: 0.900, 2: 0.850, 9: 0.1})
    b = point({2: 0.839, 1: 0.888, 0: 0.940, 7: 0.9}, sparsity=0.504)
    d = differences.difference(("a", a), ("b", b))
    assert (d.seeds, d.sparsity) == (3, pytest.approx(0.502))
    assert (d.mean, d.low, d.high) == pytest.approx((0.011, 0.011 - 0.002484, 0.011 + 0.002484), abs=1e-6)
    assert d.verdict == "a is better by 1.10 points (3 seeds)"
    assert differences.difference(("b", b), ("a", a)).verdict == "a is better by 1.10 points (3 seeds)"


def test_verdicts_in_plain_words():
    """Differences 0.01, 0.02, 0.01: mean 0.01333, half width 4.3027 · 0.0057735 / √3 = 0.01434: zero lies within."""
    a, b = point({0: 0.95, 1: 0.96, 2: 0.97}), point({0: 0.94, 1: 0.94, 2: 0.96})
    d = differences.difference(("a", a), ("b", b))
    assert d.low == pytest.approx(0.013333 - 0.014342, abs=1e-5)
    assert d.verdict == "no significant difference (3 seeds)"
    assert differences.difference(("a", a), ("c", a)).verdict == "equal on all 3 seeds: no spread to test"
    one = differences.difference(("a", point({0: 0.9})), ("b", point({0: 0.8})))
    assert (one.low, one.decided, one.verdict) == (None, False, "one seed: significance unknown")


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("apart", [0.01, -0.0003])
def test_a_difference_that_is_the_same_on_all_seeds_is_no_proof(seeds, apart):
    """Accuracies of 10,000 test images; 0.97 − 0.96 and 0.95 − 0.94 differ as floats, by rounding only."""
    accuracies = [0.9412, 0.9567, 0.9701, 0.9633, 0.9528][:seeds]
    a, b = point(dict(enumerate(x + apart for x in accuracies))), point(dict(enumerate(accuracies)))
    d = differences.difference(("a", a), ("b", b))
    assert (d.mean, d.seeds) == (pytest.approx(apart), seeds)
    assert (d.low, d.high, d.p, d.decided) == (None, None, None, False)
    assert d.verdict == f"the same difference on all {seeds} seeds: no spread to test"
    other = differences.difference(("a", point({0: 0.9, 1: 0.8, 2: 0.7})), ("c", point({0: 0.91, 1: 0.82, 2: 0.73})))
    assert [found.p for found in differences.holm([d, other])] == [None, other.p]  # one test, not two


def test_of_each_pair_the_table_has_the_sparsity_that_most_experiments_have(tmp_path):
    """Two go on to 60%, the third does not: the two are compared where all three are, as the headline does."""
    for name, sparsities in (("a", (0.0, 0.5)), ("b", (0.0, 0.5, 0.6)), ("c", (0.0, 0.5, 0.6))):
        for seed in range(3):
            rows = rounds(seed, lambda seed, s, name=name: 0.8 + (seed + 1) ** 2 * ord(name) / 1e5, sparsities)
            run(tmp_path / name / str(seed), [f"strategy={name}", f"seed={seed}"], rows)
    found = curves(group(find_runs([tmp_path])))
    pairs = differences.all_pairs(found)
    assert differences.shared_level(found) == 0.5
    assert [d.sparsity for d in differences.one_each(pairs, 0.5)] == [0.5] * 3
    assert [d.sparsity for d in differences.one_each(pairs, 0.3)] == [0.5, 0.5, 0.6]
    single = [pair[-1].p for pair in pairs]
    assert [d.p for d in differences.one_each(pairs, 0.5)] == list(multipletests(single, method="holm")[1])


def test_experiments_on_unlike_data_are_not_compared():
    runs = [
        a_run([f"data={name}", f"strategy={s}", "seed=0"], folder=name + s, config={"data": {"_target_": name}})
        for name in ("mnist", "kmnist")
        for s in ("l1", "global")
    ]
    found = {(d.first, d.second) for (d,) in differences.all_pairs(curves(group(runs)))}
    assert found == {(f"l1 {name}", f"global {name}") for name in ("mnist", "kmnist")}


def test_only_equal_sparsities_are_compared():
    a = point({0: 0.9, 1: 0.9})
    assert differences.difference(("a", a), ("b", point({0: 0.9, 1: 0.9}, sparsity=0.505))) is not None
    assert differences.difference(("a", a), ("b", point({0: 0.9, 1: 0.9}, sparsity=0.506))) is None
    assert differences.difference(("a", a), ("b", point({5: 0.9}))) is None


def test_curves_are_compared_where_both_have_the_sparsity_and_never_at_the_dense_network(tmp_path):
    found = curves_of(tmp_path, {"l1": lambda seed, s: 0.8 + seed / 100, "global": lambda seed, s: 0.9 + seed / 90})
    ((first, *others),) = differences.all_pairs(found)
    assert [d.sparsity for d in (first, *others)] == pytest.approx([0.488, 0.36, 0.2])
    assert first.verdict == "global is better by 10.11 points (3 seeds)"


def test_more_curves_than_colours_are_all_compared(tmp_path):
    """Ten curves, eight colours: 45 pairs."""
    found = curves_of(tmp_path, {f"s{n}": lambda seed, s, n=n: 0.8 + n / 100 for n in range(10)}, seeds=[0, 1])
    assert len(differences.all_pairs(found)) == 45


def test_p_values_are_corrected_by_holm():
    """p = 0.01, 0.04, 0.03 give 3 · 0.01, the larger of 2 · 0.03 and 1 · 0.04, and 2 · 0.03 (Holm 1979)."""
    three = [differences.Difference("a", "b", 0.5, 3, 0.01, 0.0, 0.02, p) for p in (0.01, 0.04, 0.03)]
    one_seed = differences.Difference("a", "c", 0.5, 1, 0.01, None, None, None)
    found = differences.holm([*three, one_seed])
    assert [d.p for d in found] == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), None]
    assert [d.decided for d in found] == [True, False, False, False]
    assert differences.holm([]) == []


def test_the_correction_is_that_of_statsmodels():
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 30):
        values = rng.uniform(0, 0.1, count).round(2)  # with ties
        found = differences.holm(differences.Difference("a", "b", 0.5, 3, 0.01, 0.0, 0.02, p) for p in values)
        assert [d.p for d in found] == pytest.approx(multipletests(values, method="holm")[1])


def test_the_p_value_is_that_of_the_paired_t_test():
    a, b = point({0: 0.95, 1: 0.96, 2: 0.97}), point({0: 0.94, 1: 0.94, 2: 0.96})
    d = differences.difference(("a", a), ("b", b))
    assert d.p == pytest.approx(stats.ttest_rel([0.95, 0.96, 0.97], [0.94, 0.94, 0.96]).pvalue)


def test_very_many_curves_are_compared_with_the_best_in_validation():
    """Seventy curves: 69 pairs, each with the curve of the best validation accuracy, which is the worst in test."""
    runs = [
        a_run([f"strategy=s{n}", "seed=0"], final=row(2, 0.5, 0.9 - n / 100, 0.1 + n / 100), folder=str(n))
        for n in range(70)
    ]
    pairs = differences.all_pairs(curves(group(runs)))
    assert {found[0].first for found in pairs} == {"s0"}
    assert [found[0].second for found in pairs] == [f"s{n}" for n in range(1, 70)]
