"""The command `prunelab`: choose a subcommand by the first word, or run an experiment."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence

from prunelab import __version__

COMMANDS = ("run", "sweep", "search", "report", "inspect", "compact", "export", "stages")
OPTIONS = ("-", "+", "~")  # what an experiment's arguments may start with, if they are not key=value
Command = Callable[[Sequence[str]], int | None]


def main() -> None:
    """Run the command line of this process and exit with its status."""
    words = sys.argv[1:]
    first = words[0] if words else ""
    if first in COMMANDS:
        command, words = _command(first), words[1:]
    elif first and "=" not in first and not first.startswith(OPTIONS):
        print(f"prunelab: there is no command {first}; {_suggestion(first)}", file=sys.stderr)
        sys.exit(1)
    elif first == "--version":
        command = _version
    else:
        command = _command("run")
    sys.exit(command(words))


def _command(name: str) -> Command:
    """The function of a command. Each is imported only when it is called, so that all others answer at once."""
    if name == "search":
        from prunelab.cli import search

        return search.main
    if name == "report":
        from prunelab.cli import report

        return report.main
    if name == "inspect":
        from prunelab.cli import inspect

        return inspect.main
    if name == "compact":
        from prunelab.cli import compact

        return compact.main
    if name == "export":
        from prunelab.cli import export

        return export.main
    if name == "stages":
        from prunelab.cli import stages

        return stages.main
    return _sweep if name == "sweep" else _experiment


def _experiment(overrides: Sequence[str]) -> int:
    if {"-h", "--help"} & set(overrides):
        from prunelab.cli import help_page

        print(help_page.text(overrides))
        return 0
    from prunelab.cli import run

    return run.main(overrides)


def _sweep(overrides: Sequence[str]) -> int:
    return _experiment(["--multirun", *overrides])


def _version(_: Sequence[str]) -> int:
    print(f"prunelab {__version__}")
    return 0


def _suggestion(word: str) -> str:
    """What somebody may have meant by a word that is neither a command nor an override."""
    from prunelab.cli import help_page

    if choices := [f"{group}={word}" for group, names in help_page.groups() if word in names]:
        return f"did you mean {' or '.join(choices)}?"
    if close := difflib.get_close_matches(word, COMMANDS, 1):
        return f"did you mean {close[0]}?"
    return f"must be key=value or one of {', '.join(COMMANDS)}"
