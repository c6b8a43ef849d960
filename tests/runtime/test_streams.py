"""Streams that end no command: against pipes that nobody reads, full disks and narrow encodings."""

import contextlib
import io
import os
import shutil
import sys
import threading

import pytest

from prunelab.runtime import streams
from prunelab.runtime.streams import Lasting, make_lasting


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            continue


def test_a_pipe_that_nobody_reads_takes_all_in_silence(pipe):
    reading, writing = pipe
    stream = Lasting(writing, None)
    stream.write("first\n")
    assert os.read(reading, 100) == b"first\n"
    os.close(reading)
    for _ in range(3):
        assert stream.write("x" * 100_000 + "\n") == 100_001
        stream.flush()
    print("goes on", file=stream)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")  # noqa: PTH110
def test_a_full_disk_takes_all_in_silence():
    fd = os.open("/dev/full", os.O_WRONLY)
    stream = Lasting(fd, None)
    print("x" * 100_000, file=stream, flush=True)
    os.close(fd)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", b"? 3 ? - \n"), ("cp1252", b"? 3 \xd7 - \n"), ("utf-8", "≈ 3 × - \n".encode()), ("latin-1", None)],
)
def test_what_an_encoding_lacks_becomes_a_question_mark(encoding, expected, pipe):
    reading, writing = pipe
    stream = Lasting(writing, io.TextIOWrapper(io.BytesIO(), encoding))
    print("≈ 3 × - ", file=stream, flush=True)
    assert os.read(reading, 100) == (expected or "? 3 × - \n".encode("latin-1"))
    print("\udcff", file=stream, flush=True)  # of a path that is no text
    assert os.read(reading, 100) == b"?\n"


def test_the_stream_of_a_test_or_a_notebook_stays(monkeypatch):
    ours = io.StringIO()
    monkeypatch.setattr(sys, "stdout", ours)
    monkeypatch.setattr(sys, "stderr", ours)
    make_lasting()
    assert sys.stdout is ours


def test_what_tensorboard_cannot_write_is_said_once(tmp_path, monkeypatch, capsys):
    """Its thread raises the error in the main thread; a thread of anybody else's prints its own."""
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    monkeypatch.setattr(threading, "excepthook", streams._exception_in_thread)
    writer = tensorboard.SummaryWriter(str(tmp_path / "board"))
    shutil.rmtree(tmp_path / "board")
    writer.add_scalar("x", 1)
    for flush in (writer.flush, writer.flush):  # by the second one, the thread has ended
        with contextlib.suppress(OSError):
            flush()
    assert capsys.readouterr().err == ""
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert "ZeroDivisionError" in capsys.readouterr().err
