"""Functions that are called in a fresh process: what comes back, and when the processes end."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from prunelab.runtime import fresh_process
from prunelab.runtime.fresh_process import call


def test_each_call_has_a_process_of_its_own():
    assert len({os.getpid(), call(os.getpid), call(os.getpid)}) == 3
    assert call(json.loads, "[1, null]") == [1, None]


def test_it_is_where_the_caller_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HERE", "yes")
    assert call(os.getcwd) == str(tmp_path.resolve())
    assert call(os.getenv, "HERE") == "yes"


@pytest.mark.skipif(not fresh_process.SHARED, reason="there is no server")
def test_what_was_expected_is_there_and_nothing_of_other_calls():
    assert not call(imported, "wave")
    fresh_process.expect("no_such_module", "wave")
    assert call(imported, "wave")


def imported(name):
    return name in sys.modules


def test_an_error_is_quoted():
    with pytest.raises(RuntimeError, match="JSONDecodeError: Expecting property name"):
        call(json.loads, "{")


def test_a_killed_process_is_an_error():
    with pytest.raises(RuntimeError, match="the process was killed"):
        call(os._exit, 3)
    assert call(json.loads, "1") == 1


@pytest.mark.slow
@pytest.mark.skipif(not fresh_process.SHARED, reason="there is no server")
def test_a_server_that_was_killed_is_replaced():
    first = call(os.getppid)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert call(os.getppid) != first


@pytest.mark.slow
@pytest.mark.skipif(not fresh_process.SHARED, reason="there is no server")
def test_the_server_ends_with_the_process_that_started_it(tmp_path, python):
    code = "import os; from prunelab.runtime.fresh_process import ADDRESS, call, share; share();"
    code += "print(call(os.getppid), os.environ[ADDRESS])"
    done = python(code.replace("import os;", f"import os; os.environ.pop('{fresh_process.ADDRESS}', 0);"), cwd=tmp_path)
    server, address = done.stdout.split()
    places = [Path(address).parent, Path(f"/proc/{server}/exe")]
    for _ in range(100):
        if not any(place.exists() for place in places):
            break
        time.sleep(0.1)
    assert not any(place.exists() for place in places), done.stderr


def test_one_question_without_a_server():
    question = {"modules": ["json"], "function": "loads", "arguments": ["{"], "keywords": {}}
    place = {"path": [], "folder": ".", "environment": {}}
    path, environment = list(sys.path), dict(os.environ)
    try:
        assert json.loads(fresh_process.answer(question | place))["error"].startswith("JSONDecodeError")
    finally:
        sys.path[:] = path
        os.environ.update(environment)
