"""SIGKILL at any time: the same experiment goes on, and ends as if nothing had happened."""

import csv
import random
import signal
import time

import pytest
from harness import finish, is_full, record, result, settings, sizes, start


@pytest.mark.slow
@pytest.mark.parametrize("kills", sizes(5, 200))
def test_killed_again_and_again_ends_bit_identical(kills, tmp_path, request):
    draw = random.Random(kills)
    finish(settings(tmp_path / "warm-up"), tmp_path / "warm-up-run")  # the server imports torch
    began = time.monotonic()
    finish(settings(tmp_path / "undisturbed"), tmp_path / "reference")
    length = time.monotonic() - began
    expected = result(tmp_path / "reference")

    done = landed = experiments = 0
    while done < kills:
        experiments += 1
        overrides = settings(tmp_path / f"outputs-{experiments}")
        for attempt in range(min(3, kills - done)):
            process = start(overrides, tmp_path / f"run-{experiments}-{attempt}")
            time.sleep(draw.uniform(0, length))
            process.kill()
            process.join()
            done += 1
            landed += process.exitcode == -signal.SIGKILL
        finish(overrides, tmp_path / f"run-{experiments}")
        assert result(tmp_path / f"run-{experiments}") == expected
        if is_full(request):
            record("kills", landed=landed, sigkills=done, experiments=experiments, bit_identical=experiments)
    assert landed > done / 3  # the others came too late


def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path):
    overrides = settings(tmp_path / "outputs", "train.epochs=24", "schedule.rounds=1")
    process = start(overrides, tmp_path / "killed")
    epochs = tmp_path / "killed" / "epochs.csv"
    while not epochs.exists() or epochs.read_text().count("\n") < 6:
        time.sleep(0.02)
    process.kill()
    process.join()
    finish(overrides, tmp_path / "resumed")
    text = (tmp_path / "resumed" / "epochs.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))[:24]
    reused = [row["reused"] == "true" for row in rows]
    assert reused.count(True) >= 4  # all but the one that was under way, or just ended
    assert reused == sorted(reused, reverse=True)
