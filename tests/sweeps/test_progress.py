"""The lines of a sweep under way, and the time left, from folders written by hand."""

import json
import os

import pytest

from prunelab.sweeps import progress

JOBS = [["strategy=l1", f"seed={seed}", "data.limit=300"] for seed in range(4)]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so; and nobody looks but the test."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "PAUSE", 1e6)
    return now


@pytest.fixture
def watched(tmp_path, clock):
    made = progress.Progress(JOBS, [tmp_path / str(n) for n in range(len(JOBS))])
    yield made
    made.stop()


def begin(folder, number, tries=1):
    (folder / str(number)).mkdir(exist_ok=True)
    (folder / str(number) / "tries.json").write_text(json.dumps({"tries": tries, "epochs": 0, "ended": False}))


def end(folder, number, **summary):
    begin(folder, number)
    final = {"test_accuracy": 0.989, "sparsity": 0.672}
    whole = {"status": "completed", "seconds": 1.0, "final": final, **summary}
    (folder / str(number) / "summary.json").write_text(json.dumps(whole))
    (folder / str(number) / "tries.json").write_text(json.dumps({"tries": 1, "epochs": 0, "ended": True}))


def printed(watched, capsys):
    watched.look()
    return capsys.readouterr().out.splitlines()


def test_one_job_at_a_time(watched, tmp_path, clock, capsys):
    begin(tmp_path, 0)
    assert printed(watched, capsys) == []
    clock[0] += 600
    end(tmp_path, 0)
    assert printed(watched, capsys) == ["1 of 4 done: seed=0: 98.90% at 67.2% sparsity · about 30 min left"]
    begin(tmp_path, 1)
    printed(watched, capsys)
    clock[0] += 1200  # twice as long: the mean is 900 s
    end(tmp_path, 1)
    assert printed(watched, capsys)[0].endswith("about 30 min left")
    assert printed(watched, capsys) == []  # once


def test_two_at_a_time_take_half_as_long_and_a_running_one_is_partly_done(watched, tmp_path, clock, capsys):
    begin(tmp_path, 0)
    begin(tmp_path, 1)
    printed(watched, capsys)
    clock[0] += 600
    end(tmp_path, 1)
    (line,) = printed(watched, capsys)
    # Job 0 should be over; 2 and 3 take 600 s each, on two workers.
    assert line == "1 of 4 done: seed=1: 98.90% at 67.2% sparsity · about 10 min left"


def test_the_last_job_alone_takes_as_long_as_a_job(watched, tmp_path, clock, capsys):
    for number in (0, 1, 2):
        begin(tmp_path, number)
    printed(watched, capsys)
    clock[0] += 600
    for number in (0, 1, 2):
        end(tmp_path, number)
    assert printed(watched, capsys)[-1].endswith("3 of 4 done: seed=2: 98.90% at 67.2% sparsity · about 10 min left")


def test_a_failed_job_says_why_in_its_line(watched, tmp_path, capsys):
    end(tmp_path, 0, status="failed", error="amount=0.2: nm decides by itself\nTraceback")
    assert printed(watched, capsys)[0].startswith("1 of 4 failed: seed=0: amount=0.2: nm decides by itself")


def test_what_was_complete_before_is_counted_silently_and_costs_no_time(tmp_path, clock, capsys):
    end(tmp_path, 0)
    os.utime(tmp_path / "0" / "summary.json", (1, 1))
    watched = progress.Progress(JOBS, [tmp_path / str(n) for n in range(len(JOBS))])
    assert printed(watched, capsys) == []
    begin(tmp_path, 1)
    printed(watched, capsys)
    clock[0] += 600
    end(tmp_path, 1)
    assert printed(watched, capsys) == ["2 of 4 done: seed=1: 98.90% at 67.2% sparsity · about 20 min left"]
    watched.stop()


def test_a_job_started_again_is_timed_from_its_new_start(watched, tmp_path, clock, capsys):
    begin(tmp_path, 0)
    printed(watched, capsys)
    clock[0] += 6000
    begin(tmp_path, 0, tries=2)
    printed(watched, capsys)
    clock[0] += 600
    end(tmp_path, 0)
    assert printed(watched, capsys)[0].endswith("about 30 min left")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "5 s"), (42, "40 s"), (58, "1 min"), (3000, "50 min"), (5400, "1.5 h"), (90000, "25.0 h")],
)
def test_time_in_words(seconds, words):
    assert progress.in_words(seconds) == f" · about {words} left"
