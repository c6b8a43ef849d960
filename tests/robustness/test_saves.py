"""A save that dies at any file operation leaves the old content or the new one, and the next save works."""

import os
import pathlib

import pytest
import torch
from harness import row

from prunelab.stages import files
from prunelab.stages.checkpoint import Work
from prunelab.stages.stage import Stage, State
from prunelab.stages.store import Store


class Killed(BaseException):
    """Stands for SIGKILL: no `except Exception` or `except OSError` may tidy up after it."""


class Countdown:
    """Counts file operations, and dies at the chosen one: before it, or after half of a write."""

    OPERATIONS = ((os, "mkdir"), (os, "rename"), (os, "fsync"), (os, "open"), (os, "rmdir"), (os, "unlink"))

    def __init__(self, monkeypatch):
        self.count, self.at = 0, None
        for module, name in self.OPERATIONS:
            monkeypatch.setattr(module, name, self.counted(getattr(module, name)))
        monkeypatch.setattr(pathlib.Path, "rename", self.counted(pathlib.Path.rename))
        write = files._write

        def halved(path, data):
            if self.step():
                path.write_bytes(data[: len(data) // 2])
                raise Killed
            write(path, data)

        monkeypatch.setattr(files, "_write", halved)

    def step(self):
        self.count += 1
        return self.count == self.at

    def counted(self, function):
        def operation(*args, **kwargs):
            if self.step():
                raise Killed
            return function(*args, **kwargs)

        return operation


def stage(value):
    state = State({"w": torch.full((4,), value)}, {"w": torch.tensor([True, False, True, True])}, row(0))
    return Stage("dense", None, {"value": value}, lambda work: state)


def operations(monkeypatch, action):
    with monkeypatch.context() as patch:
        countdown = Countdown(patch)
        action()
        return countdown.count


def die_at(monkeypatch, at, action):
    with monkeypatch.context() as patch:
        Countdown(patch).at = at
        with pytest.raises(Killed):
            action()


def test_a_stage_killed_at_every_file_operation_of_its_save(tmp_path, monkeypatch):
    count = operations(monkeypatch, lambda: Store(tmp_path / "count").run(stage(1.0)))
    assert count > 15
    for at in range(1, count + 1):
        root = tmp_path / str(at)
        die_at(monkeypatch, at, lambda root=root: Store(root).run(stage(1.0)))
        found = Store(root).load(stage(1.0).name)
        assert found is None or found.weights["w"].tolist() == [1.0] * 4
        assert not (root / "damaged").exists()  # half-written is not even seen
        assert Store(root).run(stage(1.0)).weights["w"].tolist() == [1.0] * 4
        assert not [path.name for path in root.iterdir() if path.suffix in (".tmp", ".old", ".work")]


def test_a_checkpoint_killed_at_every_file_operation_keeps_the_one_before(tmp_path, monkeypatch):
    def save_two(root):
        work = Work(root, "s")
        work.save({"epoch": 1})
        return work

    count = operations(monkeypatch, lambda: save_two(tmp_path / "count").save({"epoch": 2}))
    first = operations(monkeypatch, lambda: save_two(tmp_path / "first"))
    for at in range(1, count - first + 1):
        work = save_two(tmp_path / str(at))
        die_at(monkeypatch, at, lambda work=work: work.save({"epoch": 2}))
        assert work.load()["epoch"] in (1, 2)
        work.save({"epoch": 3})
        assert work.load()["epoch"] == 3


def test_replacing_a_stage_never_leaves_half_of_one(tmp_path, monkeypatch):
    def replace(root):
        Store(root, reuse=False).run(stage(1.0))

    Store(tmp_path / "count").run(stage(1.0))
    count = operations(monkeypatch, lambda: replace(tmp_path / "count"))
    for at in range(1, count + 1):
        root = tmp_path / str(at)
        Store(root).run(stage(1.0))
        die_at(monkeypatch, at, lambda root=root: replace(root))
        found = Store(root).load(stage(1.0).name)
        assert found is None or found.weights["w"].tolist() == [1.0] * 4
        assert Store(root).run(stage(1.0)).weights["w"].tolist() == [1.0] * 4
