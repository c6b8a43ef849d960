"""Signals: obeyed at the next batch, or at the end of a run that they came too late for."""

import json
import os
import signal

import pytest
from conftest import composed

import prunelab
from prunelab.runtime.interrupt import InterruptedRun, graceful
from prunelab.tracking.run_folder import RunFolder


def test_a_signal_is_obeyed_when_asked_for():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedRun) as caught, graceful() as check:  # noqa: PT012
        check()
        os.kill(os.getpid(), signal.SIGTERM)
        check()
    assert (caught.value.exit_status, caught.value.late) == (143, False)
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_that_nobody_asked_for_is_obeyed_at_the_end():
    with pytest.raises(InterruptedRun) as caught, graceful():
        os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.late


def test_an_error_of_the_run_is_not_hidden_by_it():
    with pytest.raises(KeyError), graceful():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        raise KeyError


def test_a_run_that_was_over_when_it_came_is_completed(tmp_path, monkeypatch):
    finish = RunFolder.finish

    def late(self):
        os.kill(os.getpid(), signal.SIGTERM)
        finish(self)

    monkeypatch.setattr(RunFolder, "finish", late)
    with pytest.raises(InterruptedRun):
        prunelab.run(composed(tmp_path, "schedule.rounds=1"), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "completed"
