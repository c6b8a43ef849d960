"""A folder that may not be written: one line that names it; what was there before stays loadable."""

import ctypes
import os

import forked
import pytest
from harness import finish, result, settings

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
