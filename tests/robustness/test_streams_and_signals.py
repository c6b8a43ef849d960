"""A stream or a signal never fails a command with more than one line: closed streams, narrow encodings, Ctrl-C."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import forked
import pytest
from conftest import overrides, start
from forked import PATIENCE

from prunelab.cli import main as entry
from prunelab.cli.arguments import failed
from prunelab.errors import ConfigError
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.tracking.console import Console

NARROW = {"cp1252": {"PYTHONIOENCODING": "cp1252"}, "ascii": {"PYTHONIOENCODING": "ascii"}}
NARROW |= {name: {"LC_ALL": name, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"} for name in ("C", "POSIX")}
REDIRECTED = (">&-", "2>&- >/dev/null", "<&- >&- 2>&-", "| head -1", "2>&1 | head -1", "| true", "> /dev/full")


def shell(folder, words, redirected, **environment):
    line = f"set -o pipefail; {sys.executable} -m {' '.join(words)} {redirected}"
    whole = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=whole, capture_output=True, text=True, timeout=200 * PATIENCE
    )


@pytest.mark.parametrize("redirected", REDIRECTED)
def test_a_stream_that_nobody_reads_fails_no_subcommand(redirected, tmp_path):
    done = shell(tmp_path, ["prunelab", "stages", "list"], redirected)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("redirected", REDIRECTED)
@pytest.mark.parametrize("words", [["strategy=channel"], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_a_stream_that_nobody_reads_stops_no_run(words, redirected, tmp_path):
    done = shell(tmp_path, ["prunelab", *words, *overrides(tmp_path, "schedule.rounds=1")], redirected)
    assert (done.returncode, done.stderr) == (0, "")
    summaries = list(tmp_path.rglob("summary.json"))
    assert len(summaries) == (2 if "-m" in words else 1)
    assert all(json.loads(path.read_text())["status"] == "completed" for path in summaries)


def narrow():
    sys.stdout.reconfigure(encoding="ascii")
    sys.stderr.reconfigure(encoding="ascii")


def test_a_narrow_stdout_stops_no_run(tmp_path):
    done = forked.run(*overrides(tmp_path, "strategy=channel", "schedule.rounds=1"), cwd=tmp_path, first=narrow)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n?????  " in done.stdout  # the rule of a table


@pytest.mark.slow
@pytest.mark.parametrize("kind", NARROW)
def test_a_narrow_encoding_stops_no_run(kind, tmp_path):
    how = overrides(tmp_path, "strategy=channel", "schedule.rounds=1", "hydra.run.dir=run")
    words, environment = [sys.executable, "-m", "prunelab", *how], {**os.environ, **NARROW[kind]}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\n?????  " in done.stdout  # the rule of a table


def test_a_narrow_or_closed_stream_stops_no_run_from_python(monkeypatch, tmp_path):
    file = (tmp_path / "said").open("w", encoding="ascii")
    monkeypatch.setattr(sys, "stdout", file)
    Console().say("≈ 3")
    file.close()
    assert (tmp_path / "said").read_text() == "? 3\n"
    Console().say("closed")
    monkeypatch.setattr(sys, "stdout", None)
    Console().say("none")


# Ctrl-C


def ended(subcommand, monkeypatch, capsys):
    """The exit status and stderr of `prunelab stages` if this function is its code."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(sys, "argv", ["prunelab", "stages"])
    monkeypatch.setattr("prunelab.cli.stages.main", subcommand)
    with pytest.raises(SystemExit) as caught:
        entry.main()
    for number, handler in before.items():
        signal.signal(number, handler)
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (InterruptedRun(signal.SIGTERM), 143, "stopped"),
        (PermissionError(13, "Permission denied", "/x"), 1, "/x: Permission denied"),
        (ConfigError("a=1: must be 2"), 1, "a=1: must be 2"),
    ],
)
def test_what_ends_a_subcommand_is_one_line(error, status, said, monkeypatch, capsys):
    def subcommand(arguments):
        raise error

    assert ended(subcommand, monkeypatch, capsys) == (status, f"prunelab: {said}\n")


@pytest.mark.parametrize("code", ["no such launcher\x1b[2J\n", 3, None])
def test_what_leaves_a_subcommand_is_its_status_or_one_line(code, monkeypatch, capsys):
    def subcommand(arguments):
        sys.exit(code)

    said = "no such launcher\\x1b[2J\\n\n" if isinstance(code, str) else ""
    assert ended(subcommand, monkeypatch, capsys) == (1 if said else code or 0, said)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_command_that_takes_long_to_stop(first, second, tmp_path):
    code = f"""
import os, signal, sys, prunelab.cli.stages
from prunelab.cli import main

def slow(arguments):
    try:
        os.kill(os.getpid(), {int(first)})
    finally:
        os.kill(os.getpid(), {int(second)})
        print("never")

prunelab.cli.stages.main = slow
sys.argv = ["prunelab", "stages"]
main.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + second, "", "prunelab: stopped\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [["-m", "seed=0,1"], ["search"], ["reproduce", "snip_lenet5"], ["compact"], []])
def test_a_signal_before_the_first_job_is_one_line(words, number, monkeypatch, capsys, tmp_path):
    """While a command is imported, or Hydra composes; before an experiment has handlers of its own."""

    def imported(name):
        signal.raise_signal(number)

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prunelab", *words])
    monkeypatch.setattr(entry, "import_module", imported)
    with pytest.raises(SystemExit) as caught:
        entry.main()
    for one, handler in before.items():
        signal.signal(one, handler)
    assert (caught.value.code, capsys.readouterr().err) == (128 + number, "prunelab: stopped\n")


def test_a_signal_that_a_library_swallows_is_obeyed_all_the_same(monkeypatch, capsys):
    def subcommand(arguments):
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            raise ImportError("initialization failed") from error

    assert ended(subcommand, monkeypatch, capsys) == (130, "prunelab: stopped\n")


def test_an_error_without_a_file_is_said_as_it_is(capsys):
    failed(OSError("no locks"))
    assert capsys.readouterr().err == "prunelab: no locks\n"


COMMANDS = {
    "compact": ["compact", "run"],
    "export": ["export", "run"],
    "report": ["report", "run"],
    "inspect": ["inspect"],
    "verify": ["stages", "verify"],
    "remove": ["stages", "remove", "--all"],
    "search": ["search", "data.limit=300", "train.epochs=50", "amount=interval(0.1,0.9)"],
    "run": ["data.limit=300", "train.epochs=50"],
    "sweep": ["sweep", "data.limit=300", "train.epochs=50", "seed=0,1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_at_any_time_is_one_line(command, cli, tmp_path):
    draw = random.Random(command)
    how = overrides(tmp_path, "schedule.rounds=1", "strategy=channel", "hydra.run.dir=run")
    assert cli(*how, cwd=tmp_path).returncode == 0
    for attempt in range(4):
        process = start(*COMMANDS[command], cwd=tmp_path)
        time.sleep(draw.uniform(1, 6))
        number = signal.SIGTERM if attempt == 3 else signal.SIGINT
        for _ in range(draw.choice([1, 1, 2])):  # and once more, in the middle of stopping
            process.send_signal(number)
            time.sleep(draw.uniform(0, 0.1))
        _, said = process.communicate(timeout=60 * PATIENCE)
        if process.returncode:
            assert process.returncode == 128 + number, said
            assert len(said.splitlines()) == 1, said
