"""The command `prunelab`: choose a subcommand by the first word, or run an experiment."""

import difflib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from prunelab import __version__
from prunelab.cli.arguments import TRACEBACK_WANTED, failed, stopped
from prunelab.errors import ConfigError
from prunelab.runtime import interrupt, streams
from prunelab.runtime.interrupt import InterruptedRun
from prunelab.runtime.streams import say

COMMANDS = ("run", "sweep", "search", "report", "inspect", "compact", "export", "stages", "runs", "reproduce", "doctor")
OPTIONS = ("-", "+", "~")  # what an experiment's arguments may start with, if they are not key=value


def main(*words: str) -> NoReturn:
    """Run the command line of this process, after these first words of it, and exit with its status."""
    streams.make_lasting()
    with interrupt.noted() as check:
        try:
            status = _run([*words, *sys.argv[1:]], check)
        except (InterruptedRun, KeyboardInterrupt) as error:
            status = stopped(error)
        except SystemExit as error:
            if isinstance(error.code, str):
                say(error.code, error=True, one_line=True)
            status = 1 if isinstance(error.code, str) else error.code or 0
        interrupt.ignore()
    sys.exit(status)


def _run(words: Sequence[str], check: Callable[[], None]) -> int:
    """Run a command line; `check` raises if a signal has come. Return its exit status."""
    first, *rest = words or [""]
    if first == "--version":
        say(f"prunelab {__version__}")
        return 0
    if first and first not in COMMANDS and "=" not in first and not first.startswith(OPTIONS):
        return failed(f"there is no command {first}; {_suggestion(first)}")
    if line := os.environ.get("COMP_LINE"):  # the shell asks for completions; Hydra knows no commands
        os.environ["COMP_LINE"] = re.sub(r"^(\S+ +)(run|sweep) ", r"\1", line)
    command, arguments = (first, rest) if first in COMMANDS else ("run", list(words))
    if command == "sweep":
        command, arguments = "run", ["--multirun", *arguments]
    if command == "run" and {"-h", "--help"} & set(arguments):
        say(help_page(arguments))
        return 0
    try:
        status = _subcommand(command, arguments)
    except Exception as error:
        check()  # a library may turn Ctrl-C into an error of its own
        if TRACEBACK_WANTED or not isinstance(error, (ConfigError, OSError)):
            raise
        status = failed(error)
    if command not in ("run", "reproduce"):  # which have obeyed every signal
        check()
    return status


def _subcommand(command: str, arguments: Sequence[str]) -> int:
    """Run a subcommand, which is imported only now, so that all others answer at once."""
    try:
        Path.cwd()
    except OSError as error:
        raise ConfigError(f"the working folder cannot be used: {error.strerror}") from error
    return int(import_module(f"prunelab.cli.{command}").main(arguments))


def _suggestion(word: str) -> str:
    """What somebody may have meant by a word that is neither a command nor an override."""
    if choices := [f"{group}={word}" for group, names in _groups() if word in names]:
        return f"did you mean {' or '.join(choices)}?"
    if close := difflib.get_close_matches(word, COMMANDS, 1):
        return f"did you mean {close[0]}?"
    return f"must be key=value or one of {', '.join(COMMANDS)}"


def help_page(arguments: Sequence[str] = ()) -> str:
    """Return the page of `prunelab --help`; it lists the groups in the `--config-dir` of the command line, too.

    Hydra would print the same template, but lists the config groups very slowly.
    """
    from omegaconf import OmegaConf

    from prunelab.config.compose import folder  # which makes ${help_keys:} known

    page = OmegaConf.create({"hydra": {"help": OmegaConf.load(folder() / "hydra" / "help" / "prunelab.yaml")}})
    listed = "\n".join(f"{group}: {', '.join(names)}" for group, names in _groups(arguments))
    return str(page.hydra.help.template).replace("$APP_CONFIG_GROUPS", listed)


def _groups(arguments: Sequence[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the choices of each config group, without Hydra's own."""
    from prunelab.config.conf_folder import folder

    words = [part for item in arguments for part in item.split("=", 1)]
    given = [Path(value) for flag, value in itertools.pairwise(words) if flag in ("--config-dir", "-cd")]
    found: dict[str, set[str]] = {}
    for path in (path for top in [folder(), *given] for path in top.glob("*/*.yaml")):
        found.setdefault(path.parent.name, set()).add(path.stem)
    yield from ((group, sorted(names)) for group, names in sorted(found.items()) if group != "hydra")
