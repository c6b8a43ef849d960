"""sweep.json and tries.json, which anybody may have written."""

import json
import os

import pytest

from prunelab.errors import ConfigError
from prunelab.sweeps.notes import Plan, Tries, claim

JOBS = [["seed=0"], ["seed=1"]]


def test_a_plan_is_read_as_it_was_written(tmp_path):
    Plan(JOBS, [1], ["a", "b"]).write(tmp_path)
    claim(tmp_path, JOBS).release()
    assert Plan.read(tmp_path).turn == (1,)


@pytest.mark.parametrize(
    "plan",
    [3, [], {}, *({"jobs": jobs} for jobs in (3, "ab", [3], [[{}]], [["a"], None]))],
)
def test_a_plan_of_other_types_is_damaged(plan, tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps(plan))
    with pytest.raises(ConfigError, match="is damaged"):
        claim(tmp_path, JOBS)


@pytest.mark.parametrize("noted", [3, [], {"tries": "x"}, {"epochs": "y"}, {"epochs": []}, {"ended": 3}])
def test_tries_of_other_types_count_as_none(noted, tmp_path):
    (tmp_path / "tries.json").write_text(json.dumps(noted))
    (tmp_path / "epochs.csv").write_text("epoch\n1\n")
    assert Tries.now(tmp_path) == Tries(epochs=1)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
def test_epochs_that_are_no_file_count_as_none(make, tmp_path):
    make(tmp_path / "epochs.csv")
    assert Tries.now(tmp_path) == Tries()
