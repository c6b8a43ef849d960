"""Configs and files that mean harm: nothing is executed, and nothing is written outside the output folder."""

import io
import json
import os
import pickle
import random

import pytest
import torch
from harness import is_full, record, row, sizes

from prunelab.config.allow_list import locate
from prunelab.config.compose import compose_checked
from prunelab.config.schema import REQUIRED
from prunelab.errors import ConfigError
from prunelab.report import read_summary
from prunelab.stages import files
from prunelab.stages.checkpoint import Work
from prunelab.stages.stage import Stage, State, name_of
from prunelab.stages.store import Store

KEYS = tuple(f"{part}._target_" for part in REQUIRED)
NAMES = (
    "os.system",
    "os.remove",
    "shutil.rmtree",
    "subprocess.run",
    "builtins.eval",
    "builtins.exec",
    "pickle.loads",
    "importlib.import_module",
    "torch.load",
    "torch.hub.load",
    "hydra.utils.instantiate",
    "prunelab.stages.files.shutil.rmtree",
    "prunelab.data.mnist.os.remove",
    "prunelab.data.mnist.shutil.rmtree",
    "prunelab.models.lenet.torch.load",
    "prunelab.models.lenet.F.torch.hub.load",
    "prunelab.pruning.schedules.base.inspect.os.system",
    "prunelab.pruning.custom.inspect.os.system",
    "torch.optim.adam.torch.load",
    "torch.optim.torch.hub.load",
    "torchvision.models.torch.hub.load",
    "..os.system",
    "prunelab.models.lenet.LeNet; import os",
    "__main__.x",
)


class Payload:
    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return (os.mkdir, (self.canary,))


def attempt(key, name):
    """Use a name that was read, from a study for example. (What somebody types is their own word.)"""
    custom = ("strategy=custom",) if key == "strategy.method" else ()
    config = compose_checked(*custom, f"{key}='{name}'")
    locate(name, key, config.trusted)


@pytest.mark.parametrize("count", sizes(20, 100))
def test_hostile_names_are_refused(count, request):
    draw = random.Random(count)
    pairs = [(key, name) for key in (*KEYS, "strategy.method") for name in NAMES]
    for key, name in draw.sample(pairs, count):
        with pytest.raises(ConfigError):
            attempt(key, name)
    if is_full(request):
        record("hostile", configs=count, files=len(FILES) * 3, executed=0, written_outside=0)


def plant(folder, content):
    """A folder with a valid manifest and hostile content: digests are no protection against its author."""
    files.write_folder(folder, content)


def bomb(canary):
    return pickle.dumps(Payload(canary))


def torch_bomb(canary):
    buffer = io.BytesIO()
    torch.save({"stage": "s", "x": Payload(canary)}, buffer)
    return buffer.getvalue()


FILES = {
    "checkpoint.pt": (bomb, torch_bomb, lambda canary: b"garbage"),
    "weights.safetensors": (bomb, torch_bomb, lambda canary: (2**62).to_bytes(8, "little") + b"{}"),
    "masks.safetensors": (bomb, torch_bomb, lambda canary: b'\xff\x00\x00\x00\x00\x00\x00\x00{"a":{"dtype":"F32"'),
    "epochs.jsonl": (bomb, torch_bomb, lambda canary: b"[" * 100_000),
    "round.json": (bomb, torch_bomb, lambda canary: b'{"round": '),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("number", range(3))
def test_hostile_files_are_set_aside(name, number, tmp_path, caplog):
    canary, hostile = tmp_path / "canary", FILES[name][number](tmp_path / "canary")
    stage = Stage("dense", None, {}, lambda work: State({"w": torch.ones(2)}, {}, row(0)))
    store = Store(tmp_path / "stages")
    if name == "checkpoint.pt":
        work = Work(tmp_path / "stages" / f"{stage.name}.work", "s")
        plant(work.folder / "1", {name: hostile})
        assert work.load() is None
    else:
        store.run(stage)
        content = files.read_folder(tmp_path / "stages" / stage.name)
        plant(tmp_path / "stages" / stage.name, {**content, name: hostile})
        assert store.load(stage.name) is None
    assert "set aside" in caplog.text
    assert not canary.exists()
    assert store.run(stage).weights["w"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", "..", ""])
def test_names_in_a_manifest_never_lead_outside(name, tmp_path):
    (tmp_path / "outside").write_text("secret")
    folder = tmp_path / "stages" / "x"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({name: "0" * 64}))
    with pytest.raises(files.DamagedError):
        files.read_folder(folder)


def test_a_config_that_comes_back_from_disk_is_data(tmp_path):
    summary = {"status": "completed", "config": {"_target_": "os.mkdir", "path": str(tmp_path / "canary")}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert read_summary(tmp_path)["config"]["_target_"] == "os.mkdir"
    assert not (tmp_path / "canary").exists()


def test_a_stage_may_not_name_itself():
    assert name_of(b'{"inputs":{},"kind":"../../x"}').isalnum()
