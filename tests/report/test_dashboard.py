"""The derived TensorBoard runs of a sweep, whatever its experiments are called."""

import pytest
from fake_runs import sweep

from prunelab.report import dashboard

LINES = [lambda seed, s: 0.9 - 0.1 * s, lambda seed, s: 0.8 - 0.1 * s, lambda seed, s: 0.7 - 0.1 * s]
LONG = "x" * 300
NAMES = {
    "formulas": ["$x^{$", "$_{$", "a$b"],
    "the same beginning": [f"{LONG}1", f"{LONG}2", f"{LONG[:99]}"],
    "other punctuation": ["a/b", "a?b", "a_b"],
    "not printable": ["\x1b[2J", "\u202ex", "_hidden"],
}


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_each_experiment_is_a_run_of_its_own(names, tmp_path):
    folders = dashboard.write(sweep(tmp_path / "sweep", dict(zip(names, LINES, strict=True))))
    assert len(set(folders)) == 3
    assert {folder.parent for folder in folders} == {tmp_path / "sweep" / "summary"}
    assert [len(list(folder.glob("events.out.tfevents.*"))) for folder in folders] == [1] * 3
