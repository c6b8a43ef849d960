"""Jobs in threads that take turns: one at a time, what they wait for, what they share, and how they end."""

import pytest

from prunelab.runtime import turns
from prunelab.runtime.interrupt import InterruptedRun, graceful
from prunelab.runtime.turns import TURN, Turn


def test_a_job_runs_only_between_resume_and_pause():
    seen = []

    def job():
        for number in range(3):
            seen.append(number)
            turns.wait(60)

    turn = Turn(job)
    for number in range(3):
        turn.resume()
        assert (seen, turn.ended) == (list(range(number + 1)), False)
    turn.resume()
    assert turn.ended
    assert turn.error is None
    assert TURN.get() is None


def test_a_job_waits_for_what_it_asked_and_works_for_all_where_it_is_told_to():
    done = []
    turn = Turn(lambda: (TURN.get().ask("steps"), done.append("job")))
    turn.resume()
    turn.resume()
    assert (turn.request, done) == ("steps", [])
    turn.task = lambda: done.append("task")
    turn.resume()
    assert (turn.request, done) == ("steps", ["task"])
    turn.request = None
    turn.resume()
    assert done == ["task", "job"]
    assert turn.ended


def test_what_ends_a_request_is_raised_in_the_job_and_kept():
    turn = Turn(lambda: TURN.get().ask("steps"))
    turn.resume()
    turn.error, turn.request = RuntimeError("no memory"), None
    turn.resume()
    assert turn.ended
    assert str(turn.error) == "no memory"


def test_a_signal_reaches_a_job_where_it_waits_and_at_its_batches():
    came, checks = [], []

    def interrupt():
        if came:
            raise InterruptedRun(15)

    def job():
        with graceful() as check:
            checks.append(check)
            turns.wait(1)

    turn = Turn(job, interrupt)
    turn.resume()
    assert checks == [interrupt]
    came.append(15)
    turn.resume()
    assert isinstance(turn.error, InterruptedRun)


def test_jobs_of_one_process_share_and_others_do_not():
    made, store, found = [], {}, []

    def make():
        made.append(object())
        return made[-1]

    for name in ("a", "a", "b"):
        Turn(lambda name=name: found.append(turns.shared(name, make)), shared=store).resume()
    assert found == [made[0], made[0], made[1]]
    assert turns.shared("a", make) is not turns.shared("a", make)


def test_waiting_without_turns_sleeps(monkeypatch):
    slept = []
    monkeypatch.setattr(turns.time, "sleep", slept.append)
    turns.wait(0.05)
    assert slept == [0.05]


def test_an_error_of_a_job_is_kept():
    turn = Turn(lambda: 1 / 0)
    turn.resume()
    assert turn.ended
    with pytest.raises(ZeroDivisionError):
        raise turn.error
