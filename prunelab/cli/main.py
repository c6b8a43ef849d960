"""The command `prunelab`: choose a subcommand by the first word, or run an experiment."""

from __future__ import annotations

import difflib
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from prunelab import __version__
from prunelab.cli.arguments import failed
from prunelab.errors import ConfigError
from prunelab.runtime import streams
from prunelab.runtime.interrupt import InterruptedRun, noted

COMMANDS = ("run", "sweep", "search", "report", "inspect", "compact", "export", "stages", "runs", "reproduce", "doctor")
OPTIONS = ("-", "+", "~")  # what an experiment's arguments may start with, if they are not key=value


def main(*words: str) -> NoReturn:
    """Run the command line of this process, after these first words of it, and exit with its status."""
    streams.make_lasting()
    try:
        status = _run([*words, *sys.argv[1:]])
    except (InterruptedRun, KeyboardInterrupt) as error:
        print("prunelab: stopped", file=sys.stderr)
        status = int(getattr(error, "exit_status", 130))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command is over; the interpreter's end takes a moment
    sys.exit(status)


def _run(words: Sequence[str]) -> int:
    """Run a command line. Return its exit status."""
    first, *rest = words or [""]
    if first == "--version":
        print(f"prunelab {__version__}")
        return 0
    if first and first not in COMMANDS and "=" not in first and not first.startswith(OPTIONS):
        return failed(f"there is no command {first}; {_suggestion(first)}")
    if line := os.environ.get("COMP_LINE"):  # the shell asks for completions; Hydra knows no commands
        os.environ["COMP_LINE"] = re.sub(r"^(\S+ +)(run|sweep) ", r"\1", line)
    command, arguments = (first, rest) if first in COMMANDS else ("run", list(words))
    if command == "sweep":
        command, arguments = "run", ["--multirun", *arguments]
    if command == "run" and {"-h", "--help"} & set(arguments):
        from prunelab.cli import help_page

        print(help_page.text(arguments))
        return 0
    if command in ("run", "reproduce"):  # which have signals and errors of their own
        return _subcommand(command, arguments)
    with noted() as check:
        try:
            status = _subcommand(command, arguments)
        except Exception as error:
            check()  # a library may turn Ctrl-C into an error of its own
            if not isinstance(error, (ConfigError, OSError)):
                raise
            status = failed(error)
        check()
    return status


def _subcommand(command: str, arguments: Sequence[str]) -> int:
    """Run a subcommand, which is imported only now, so that all others answer at once."""
    return int(import_module(f"prunelab.cli.{command}").main(arguments))


def _suggestion(word: str) -> str:
    """What somebody may have meant by a word that is neither a command nor an override."""
    from prunelab.cli import help_page

    if choices := [f"{group}={word}" for group, names in help_page.groups() if word in names]:
        return f"did you mean {' or '.join(choices)}?"
    if close := difflib.get_close_matches(word, COMMANDS, 1):
        return f"did you mean {close[0]}?"
    return f"must be key=value or one of {', '.join(COMMANDS)}"
