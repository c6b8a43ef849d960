"""A folder that may not be written: one line that names it; what was there before stays loadable."""

import ctypes
import os
import re
import subprocess
import sys

import forked
import pytest
from harness import SMALL, finish, result, settings

from prunelab import compose, run
from prunelab.stages.files import StorageError


def drop_privileges():
    """Takes from root the capability to write where the permissions forbid it; others never had it."""

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("process", ctypes.c_int))

    none = (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(ctypes.byref(Header(0x20080522, 0)), none) == 0


def run_without_privileges(overrides, folder, said):
    drop_privileges()
    try:
        run(compose(*overrides), folder)
    except StorageError as error:
        with open(said, "w") as file:  # noqa: PTH123
            file.write(str(error))
        os._exit(7)


def test_a_working_folder_that_is_gone_is_one_line(cli, tmp_path):
    code = f"cd {tmp_path}; mkdir x; cd x; rmdir ../x; "
    for words in ("stages", "amount=0.3", "-m seed=0,1", "inspect", "search amount=interval(0.1,0.5)"):
        done = subprocess.run(
            ["bash", "-c", f"{code} {sys.executable} -m prunelab {words!r}"], capture_output=True, text=True
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert done.stderr.startswith("prunelab: the working folder cannot be used: ")


@pytest.mark.parametrize(
    "words", [["hydra.run.dir=x"], ["-m", "seed=0,1"], ["search", "amount=interval(0.1,0.5)"]], ids=" ".join
)
def test_a_folder_whose_name_is_no_text_is_one_line(words, tmp_path):
    folder = os.fsencode(tmp_path) + b"/x\xff\xfe"
    os.mkdir(folder)  # noqa: PTH102
    words = [*(w for w in words if "=" not in w), *SMALL, *(w for w in words if "=" in w)]
    done = subprocess.run([sys.executable, "-m", "prunelab", *words], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "x\\udcff\\udcfe" in done.stderr
    assert "is not valid UTF-8; choose another folder" in done.stderr


@pytest.mark.parametrize("mode", [0o000, 0o555])
def test_a_sweep_in_a_folder_without_permission_is_one_line(mode, tmp_path):
    code = "import runpy, test_permissions as t; t.drop_privileges(); runpy.run_module('prunelab', run_name='__main__')"
    folder = tmp_path / "x"
    folder.mkdir(mode=mode)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], *sys.path])}
    how = [sys.executable, "-c", code, "-m", "seed=0,1", *SMALL]
    done = subprocess.run(how, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"prunelab: outputs\S*: cannot be written \(Permission denied\); outputs= .*\n", done.stderr)


@pytest.mark.parametrize("locked", ["stages", "run"])
def test_a_read_only_folder_is_named(locked, tmp_path_factory):
    home = tmp_path_factory.mktemp("open")
    short = settings(home / "outputs", "schedule.rounds=1", "reuse=true")
    finish(short, home / "first")
    before = result(home / "first")
    blocked = home / "outputs" / "stages" if locked == "stages" else home / "blocked"
    blocked.mkdir(exist_ok=True)
    blocked.chmod(0o555)
    more = settings(home / "outputs", "schedule.rounds=2")
    target = home / "free" if locked == "stages" else blocked / "run"
    process = forked.process(run_without_privileges, more, str(target), str(home / "said"))
    process.join(120)
    assert process.exitcode == 7
    said = (home / "said").read_text()
    assert str(blocked) in said
    assert "bytes free" in said
    assert "\n" not in said
    blocked.chmod(0o755)
    finish(short, home / "again")
    assert result(home / "again") == before
