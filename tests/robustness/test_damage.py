"""Damaged files are noticed by their digest, set aside, named, and computed again; never loaded, never a traceback."""

import logging
import random
import shutil

import pytest
import torch
from harness import is_full, record, row, sizes

from prunelab.records import EpochRecord
from prunelab.stages.checkpoint import Work
from prunelab.stages.stage import Stage, State
from prunelab.stages.store import Store

DAMAGES = ("cut", "flipped bit", "zero-filled", "swapped", "emptied", "removed", "garbage")


def stages():
    made = []
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        state = State(
            {"w": torch.rand(50, generator=generator)},
            {"w": torch.rand(50, generator=generator) > 0.5},
            row(number),
            [EpochRecord(number, 1, 0.5 + number, 0.5, 0.5, 1, 0.1, 1.0)],
        )
        made.append((Stage("round", None, {"n": number}, lambda work, state=state: state), state))
    return made


def damage(path, other, kind, draw):
    data = bytearray(path.read_bytes())
    if kind == "cut":
        path.write_bytes(data[: draw.randrange(len(data))])
    elif kind == "flipped bit":
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
    elif kind == "zero-filled":
        path.write_bytes(bytes(len(data)))
    elif kind == "swapped":
        path.write_bytes(other.read_bytes())
    elif kind == "emptied":
        path.write_bytes(b"")
    elif kind == "removed":
        path.unlink()
    else:
        path.write_bytes(draw.randbytes(draw.randrange(1, 5000)))


@pytest.mark.parametrize("count", sizes(100, 1000))
def test_no_damaged_stage_is_ever_used(count, tmp_path, caplog, request):
    draw, made = random.Random(count), stages()
    for _ in range(count):
        root = tmp_path / "stages"
        for stage, _state in made:
            Store(root).run(stage)
        (stage, state), (other, _) = draw.sample(made, 2)
        names = sorted(path.name for path in (root / stage.name).iterdir())
        name, kind = draw.choice(names), draw.choice(DAMAGES)
        before = (root / stage.name / name).read_bytes()
        damage(root / stage.name / name, root / other.name / name, kind, draw)
        changed = not (root / stage.name / name).exists() or (root / stage.name / name).read_bytes() != before
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = Store(root).load(stage.name)
        if changed:
            assert found is None, (kind, name)
            assert stage.name in caplog.text
            assert list((root / "damaged").iterdir())
        again = Store(root).run(stage)
        assert torch.equal(again.weights["w"], state.weights["w"])
        assert torch.equal(again.masks["w"], state.masks["w"])
        shutil.rmtree(root / "damaged", ignore_errors=True)
    if is_full(request):
        record("damage", damaged=count, loaded=0, tracebacks=0)


def test_a_whole_folder_under_another_name_is_noticed(tmp_path, caplog):
    (one, _), (two, state), _ = stages()
    for stage in (one, two):
        Store(tmp_path).run(stage)
    shutil.rmtree(tmp_path / two.name)
    shutil.copytree(tmp_path / one.name, tmp_path / two.name)
    assert Store(tmp_path).load(two.name) is None
    assert "another stage" in caplog.text
    assert torch.equal(Store(tmp_path).run(two).weights["w"], state.weights["w"])


def test_a_damaged_checkpoint_falls_back_to_none(tmp_path, caplog):
    work = Work(tmp_path / "stages" / ("0" * 32 + ".work"), "0" * 32)
    work.save({"epoch": 1})
    (file,) = work.folder.glob("*/checkpoint.pt")
    file.write_bytes(file.read_bytes()[:-10])
    assert work.load() is None
    assert "damaged" in caplog.text
    work.save({"epoch": 1})
    assert work.load()["epoch"] == 1
    assert Work(work.folder, "1" * 32).load() is None  # another stage's
