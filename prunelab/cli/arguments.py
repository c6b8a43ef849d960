"""What the parsers of all subcommands have in common, and how each answers an error."""

import argparse
import os
from pathlib import Path

from prunelab.runtime import interrupt
from prunelab.runtime.streams import say

# Whether the user wants the traceback of an error. Read at once: an experiment sets the variable for Hydra.
TRACEBACK_WANTED = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")


def parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """Return a parser for `prunelab <command>` whose texts keep their line breaks."""
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(
        prog=f"prunelab {command}", description=description, epilog=epilog, formatter_class=formatter
    )


def run_parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """Return a parser for a subcommand that reads the folder of a finished run."""
    made = parser(command, description, epilog)
    made.add_argument("folder", type=Path, metavar="RUN", help="the folder of a finished run")
    trusted = "your package that the model comes from"
    made.add_argument("--trusted", action="append", default=[], metavar="PACKAGE", help=trusted)
    return made


def stopped(error: BaseException, then: str = "") -> int:
    """Say that a signal has ended the command. Return the exit status: 130 after Ctrl-C, 143 after SIGTERM."""
    interrupt.ignore()
    say(f"prunelab: stopped{then}", error=True)
    return int(getattr(error, "exit_status", 130))


def failed(error: object) -> int:
    """Print one line on stderr. Return the exit status 1."""
    if isinstance(error, OSError) and error.filename is not None:
        error = f"{error.filename}: {error.strerror}"
    say(f"prunelab: {error}", error=True, one_line=True)
    return 1
