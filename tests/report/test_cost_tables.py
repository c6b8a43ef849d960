"""Costs and latencies are means over the seeds that have them."""

import pytest
from fake_runs import a_run

from prunelab.report import cost_tables
from prunelab.report.groups import group


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
    found = cost_tables.sizes(group(runs)).rows
    shown = [(row["group"], row["form"], row["seeds"], row["nonzero"], row["macs_nonzero"]) for row in found]
    assert shown == [
        ("l1", "dense", 2, 1000, 5000),  # of another number of seeds than the next one
        ("l1", "masked", 2, 500, 2500),
        ("global", "dense", 1, 1000, 5000),
        ("global", "masked", 1, 300, 1500),
    ]
    runs = [a_run([f"strategy={name}"], cost=card) for name, card in zip(("l1", "global"), cards, strict=False)]
    other = a_run(["strategy=lamp"], cost=[cost_row("dense", 999)])
    names = [row["group"] for row in cost_tables.sizes(group([*runs, other])).rows if row["form"] == "dense"]
    assert names == ["l1", "global", "lamp"]  # not the same in all
    found = cost_tables.sizes(group(runs))
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
    table = cost_tables.latencies(group(runs))
    masked, csr = table.rows[1:]
    assert (masked["seeds"], masked["speedup_1"], masked["why_no_faster"]) == (2, pytest.approx(0.6), why)
    assert (csr["seeds"], csr["speedup_256"], csr["latency_1_ms"]) == (2, 640.0, pytest.approx((1 / 3 + 1 / 2) / 2))
    assert (csr["speedup_1_error"], csr["latency_1_ms_error"]) == (pytest.approx(0.5), pytest.approx(1 / 12))
    assert "| csr | 2 | 0.417 ± 0.083 | 2.50× ± 0.50 | 107 ± 21 | 640.00× ± 128.00 |  |  |" in table.markdown()
    assert table.title.endswith("mean ± standard error over seeds; threads: 1")
    assert cost_tables.latencies(group(runs[2:])).rows == []  # nothing was timed


def times_of(*rows):
    runs = [a_run([f"seed={seed}"], seed=seed, cost=[row]) for seed, row in enumerate(rows)]
    return cost_tables.latencies(group(runs))


def test_one_seed_has_no_standard_error_and_threads_are_those_of_all():
    (row,) = times_of(cost_row("csr", 400, 2.0, threads=4)).rows
    assert (row["speedup_1_error"], row["threads"]) == (None, "4")
    table = times_of(cost_row("csr", 400, 2.0, threads=4), cost_row("csr", 400, 2.0, threads=1))
    assert table.title.endswith("; threads: 1 or 4")
    assert "| csr | 2 | 0.500 | 2.00× | 128 | 512.00× |  |  |" in table.markdown()


def test_each_form_names_the_dense_network_of_its_runtime_and_the_state_of_malloc():
    there = {"timed_in": "in a fresh process"}
    dense, pruned = cost_row("dense (onnx)", 1000, 1.0) | there, cost_row("compact (onnx)", 400, 1.05) | there
    table = cost_tables.latencies(group([a_run(cost=[dense, pruned | {"against": "dense (onnx)"}])]))
    assert [row["against"] for row in table.rows] == ["", "dense (onnx)"]
    assert table.title.startswith("Latency of each form, and speed-up over the dense network in the same runtime; ")
    assert table.title.endswith("; threads: 1; timed in a fresh process")
    assert "× | dense (onnx) |  |" in table.markdown()


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
    assert [row["form"] for row in cost_tables.sizes(found).rows] in ([], ["a"])
    assert cost_tables.latencies(found).rows == []
