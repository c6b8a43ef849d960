"""Call a function in a fresh process, which has nothing of the caller but its path, working folder and environment.

python -m prunelab.runtime.fresh_process [LISTENER ALIVE FOLDER]

On Linux a server imports torch once, which takes 3 s, and forks for each call. Processes that a caller starts, such as
the workers of a sweep, share its server, which ends with the last of them. Elsewhere each call starts a process.
"""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prunelab.errors import ConfigError, one_line

ADDRESS = "PRUNELAB_FRESH_PROCESS"  # the environment variable that tells workers the server's socket
SHARED = sys.platform == "linux"  # elsewhere a fork after `import torch` is not safe
COMMAND = (sys.executable, "-m", "prunelab.runtime.fresh_process")
P = ParamSpec("P")
T = TypeVar("T")


def start() -> None:
    """Start the server, unless this process or the one that started it has done so; return at once."""
    if SHARED:
        _address()


def share() -> None:
    """Start the server, and let the processes that this one starts use it, too."""
    if SHARED:
        os.environ[ADDRESS] = _address()


@functools.cache
def _address() -> str:
    """Return the server's socket; start the server at the first call. It ends with this process."""
    if ADDRESS in os.environ:
        return os.environ[ADDRESS]
    folder = tempfile.mkdtemp(prefix="prunelab.")  # which nobody else may enter
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/socket")
        listener.listen()
        alive, _ = os.pipe()  # its other end stays open in this process and in those that are forked from it
        for number in (listener.fileno(), alive):
            os.set_inheritable(number, True)
        null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        words = [*COMMAND, str(listener.fileno()), str(alive), folder]
        os.posix_spawn(sys.executable, words, _environment(), file_actions=null)
        os.close(alive)
    return f"{folder}/socket"


def call(function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Return what a function of this package returns in a fresh process.

    Args:
        function: at the top of its module.
        arguments, keywords: plain data, as is what it returns.

    Raises:
        RuntimeError: if it raises an error, which is quoted, or if the process is killed.
    """
    caller = {"path": sys.path, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    wanted = {"modules": [function.__module__], "function": function.__name__}
    question = json.dumps({**wanted, "arguments": arguments, "keywords": keywords, **caller}).encode()
    if SHARED:
        with _connected() as connection:
            connection.sendall(question + b"\n")
            said = connection.makefile("rb").read()
    else:
        said = subprocess.run(COMMAND, input=question, env=_environment(), capture_output=True, check=False).stdout
    reply = json.loads(said or '{"error": "the process was killed"}')
    if "error" in reply:
        raise RuntimeError(reply["error"])
    found: T = reply["returned"]
    return found


def expect(*modules: str) -> None:
    """Let the server import installed modules that later calls need; return at once."""
    if SHARED:
        with contextlib.suppress(OSError), _connected() as connection:
            connection.sendall(json.dumps({"modules": modules}).encode() + b"\n")


def _connected() -> socket.socket:
    """Return a connection to the server; a server that has ended is replaced."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(_address())
    except OSError:
        shared = os.environ.pop(ADDRESS, None)
        _address.cache_clear()
        connection.connect(_address())
        if shared:
            share()
    return connection


def _environment() -> dict[str, str]:
    found = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": found, "PYTHONSAFEPATH": "1"}  # no file of the current folder hides a package


def serve(listener: socket.socket, alive: int) -> None:
    """Answer each question in a process of its own, until no process is left that may ask."""
    import torch  # noqa: F401  # once for all questions

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    waited_for: list[Any] = [listener, alive]
    while alive not in select.select(waited_for, [], [])[0]:
        connection, _ = listener.accept()
        question = json.loads(connection.makefile("rb").readline() or "{}")
        for name in question.get("modules", ()):  # the next questions find them
            with contextlib.suppress(Exception):  # the answer tells of it
                import_module(name)
        if "function" in question and os.fork() == 0:
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection.sendall(answer(question))
            finally:
                os._exit(0)
        connection.close()


def answer(question: dict[str, Any]) -> bytes:
    """Call the function of a question in this process; return what it returns, or its error."""
    try:
        os.chdir(question["folder"])
        sys.path[:] = question["path"]
        os.environ.clear()
        os.environ.update(question["environment"])
        function = getattr(import_module(question["modules"][0]), question["function"])
        reply = {"returned": function(*question["arguments"], **question["keywords"])}
    except ConfigError as error:
        reply = {"error": one_line(error)}
    except BaseException as error:
        reply = {"error": f"{type(error).__name__}: {one_line(error)}"}
    return json.dumps(reply).encode()


def main(*arguments: str) -> None:
    """Be the server, or answer one question from standard input."""
    if not arguments:
        answered, out = json.loads(sys.stdin.buffer.read()), sys.stdout
        sys.stdout = sys.stderr  # what the user's code prints is no answer
        out.buffer.write(answer(answered))
        return
    listener, alive, folder = arguments
    try:
        serve(socket.socket(fileno=int(listener)), int(alive))
    finally:
        shutil.rmtree(Path(folder), ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
