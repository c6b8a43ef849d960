"""Shell completion, set up by the lines of the README in bash, fish and zsh."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
BASH = "`(eval [^`]*-sc install=bash[^`]*)`, zsh"
OFFERED = ["strategy=lamp", "strategy=layer"]


@pytest.fixture
def environment(tmp_path):
    """In which `prunelab` is the console script of this checkout."""
    script = tmp_path / "prunelab"
    script.write_text(f"#!{sys.executable}\nfrom prunelab.cli.main import main\nmain()\n")
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "xterm"}


def line(pattern: str) -> str:
    (found,) = re.findall(pattern, README)
    return found


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")


def said_by(*command: str, environment: dict[str, str]) -> list[str]:
    cwd = environment["HOME"]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=True, timeout=60
    ).stdout.splitlines()


@pytest.mark.parametrize("words", ["strategy=l", "run strategy=l", "sweep amount=0.2 strategy=l"])
def test_overrides_are_completed(cli, tmp_path, words):
    asked = {"COMP_LINE": f"prunelab {words}", "COMP_POINT": str(len(f"prunelab {words}"))}
    offered = cli("-sc", "query=bash", cwd=tmp_path, env=asked).stdout.split()
    assert {"strategy=l1", *OFFERED} <= set(offered)


def test_bash(environment):
    asked = "COMP_LINE='prunelab run strategy=la'; COMP_POINT=24; COMP_CWORD=2; hydra_bash_completion"
    code = f'{line(BASH)}; complete -p prunelab; {asked}; echo "${{COMPREPLY[@]}}"'
    said = said_by("bash", "-c", code, environment=environment)
    assert said[0].endswith("prunelab")
    assert said[-1].split() == OFFERED


def test_fish(environment):
    needs("fish")
    code = f"{line('`(prunelab -sc install=fish [^`]*)`')}; complete -C 'prunelab run strategy=la'"
    assert said_by("fish", "-N", "-c", code, environment=environment) == OFFERED


@pytest.mark.slow
def test_zsh_at_a_terminal(environment):
    needs("zsh")
    needs("setsid")
    setup = f"{line('`(autoload [^`]*)`')}; {line(BASH)}; PS1='GO''ON '\n"
    master, terminal = pty.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", "zsh", "-f", "-i"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        cwd=environment["HOME"],
    ) as shell:
        try:
            os.write(master, setup.replace("; compinit;", "; compinit -u;").encode())  # root does not own its folders
            assert "GOON" in read_until(master, "GOON")
            os.write(master, b"prunelab run strategy=la\t")
            assert set(OFFERED) <= set(read_until(master, OFFERED[-1]).split())
        finally:
            shell.kill()


def read_until(terminal: int, word: str, seconds: float = 60) -> str:
    """What a terminal shows until it shows a word."""
    shown, end = "", time.monotonic() + seconds
    while word not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", shown)
