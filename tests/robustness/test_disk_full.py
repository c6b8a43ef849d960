"""A full disk at any write: one line that names the folder and the free bytes; and the next run is whole."""

import errno
import functools
import resource
from pathlib import Path

import forked
import pytest
from harness import finish, result, settings

from prunelab import compose, run
from prunelab.stages import files

LIMITS = [1_000, 2_000, 100_000, 242_000, 600_000]  # bytes a file; the weights have 240,000
LONG = [pytest.param(limit, marks=pytest.mark.slow) for limit in LIMITS if limit != 242_000]
SHORT = ("schedule.rounds=1", "data.limit=100", "train.epochs=1")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    finish(settings(folder / "outputs", *SHORT), folder / "run")
    return result(folder / "run")


def failure(attempt, at):
    try:
        attempt(at)
    except files.StorageError as error:
        return str(error)
    return None


@pytest.mark.slow
def test_a_disk_that_fills_up_at_every_write(tmp_path, monkeypatch, expected):
    write = files._write

    def attempt(at):
        config = compose(*settings(tmp_path / str(at) / "outputs", *SHORT))
        count = 0

        def full(path, data):
            nonlocal count
            count += 1
            if count == at:
                path.write_bytes(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            write(path, data)

        monkeypatch.setattr(files, "_write", full)
        try:
            return run(config, tmp_path / str(at) / "full")
        finally:
            monkeypatch.setattr(files, "_write", write)
            run(config, tmp_path / str(at) / "again")

    for at in range(1, 100):  # each write of a whole run, one after the other
        said = failure(attempt, at)
        if said is None:
            break
        assert "No space left on device" in said
        assert "bytes free" in said
        assert "\n" not in said
        assert str(tmp_path) in said
        assert result(tmp_path / str(at) / "again") == expected
        assert not list(tmp_path.rglob("*.tmp"))
        assert not list(tmp_path.rglob("damaged"))
    assert 20 < at < 99


@pytest.mark.parametrize("limit", [242_000, *LONG])
def test_a_limit_on_file_size_ends_in_one_line(limit, tmp_path, expected):
    overrides = settings(tmp_path / "outputs", *SHORT, f"hydra.run.dir={tmp_path / 'run'}")
    files_of = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    limited = forked.run(*overrides, cwd=tmp_path, first=files_of)
    assert "Traceback" not in limited.stderr
    if limited.returncode != 0:
        assert limited.returncode == 1
        (line,) = limited.stderr.splitlines()
        assert line.startswith("prunelab: ")
        assert "File too large" in line
        assert str(tmp_path) in line
    else:
        assert limit >= 700_000
    finish(settings(tmp_path / "outputs", *SHORT), tmp_path / "again")
    assert result(tmp_path / "again") == expected


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = Path(tmp_path / "file")
    blocked.write_text("")
    with pytest.raises(files.StorageError, match="file"):
        files.write_folder(blocked / "stages" / "x", {"a": b""})
