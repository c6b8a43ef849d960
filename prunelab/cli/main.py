"""The command `prunelab`: choose a subcommand by the first word, or run an experiment."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

from prunelab import __version__
from prunelab.cli.arguments import failed

COMMANDS = ("run", "sweep", "search", "report", "inspect", "compact", "export", "stages")
OPTIONS = ("-", "+", "~")  # what an experiment's arguments may start with, if they are not key=value


def main() -> None:
    """Run the command line of this process and exit with its status."""
    first, *rest = sys.argv[1:] or [""]
    if first == "--version":
        print(f"prunelab {__version__}")
        sys.exit()
    if first and first not in COMMANDS and "=" not in first and not first.startswith(OPTIONS):
        sys.exit(failed(f"there is no command {first}; {_suggestion(first)}"))
    command, arguments = (first, rest) if first in COMMANDS else ("run", sys.argv[1:])
    if command == "sweep":
        command, arguments = "run", ["--multirun", *arguments]
    if command == "run" and {"-h", "--help"} & set(arguments):
        from prunelab.cli import help_page

        print(help_page.text(arguments))
        sys.exit()
    # Each subcommand is imported only when it is called, so that all others answer at once.
    sys.exit(import_module(f"prunelab.cli.{command}").main(arguments))


def _suggestion(word: str) -> str:
    """What somebody may have meant by a word that is neither a command nor an override."""
    from prunelab.cli import help_page

    if choices := [f"{group}={word}" for group, names in help_page.groups() if word in names]:
        return f"did you mean {' or '.join(choices)}?"
    if close := difflib.get_close_matches(word, COMMANDS, 1):
        return f"did you mean {close[0]}?"
    return f"must be key=value or one of {', '.join(COMMANDS)}"
