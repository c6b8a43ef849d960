"""The portable checkpoint: rebuilt without pickle, verified, and never believed."""

import hashlib
import json
import shutil

import pytest
import torch
from export_networks import config

import prunelab
from prunelab import exports as export
from prunelab.errors import ConfigError
from prunelab.exports import checkpoint, finished_run
from prunelab.exports.export_files import fresh_outputs
from prunelab.models.lenet import LeNet300100

FILES = ("model.safetensors", "masks.safetensors", "model.json")


@pytest.fixture
def stored(finished, tmp_path):
    """The three files, and nothing else of the run."""
    checkpoint.save(tmp_path, finished_run.read(finished.folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    return tmp_path


def test_the_network_of_a_run(finished):
    x = torch.randn(5, 1, 28, 28)
    loaded = export.load(finished.folder)
    assert not loaded.training
    assert torch.equal(loaded(x), finished.model.eval()(x))


def test_three_files_are_enough(finished, stored):
    x = torch.randn(5, 1, 28, 28)
    assert torch.equal(export.load(stored)(x), finished.model.eval()(x))
    assert (stored / FILES[0]).read_bytes() == (finished.folder / FILES[0]).read_bytes()


def test_what_the_json_says(stored):
    said = json.loads((stored / "model.json").read_text())
    assert said["tensors"]["fc1.weight"] == {"shape": [300, 784], "dtype": "torch.float32"}
    assert said["masks"]["fc1.weight"] == {"shape": [300, 784], "kept": 11760, "of": 235200}
    assert said["config"]["model"]["_target_"] == "prunelab.models.lenet.LeNet300100"
    assert said["versions"]["torch"] == torch.__version__
    digest = hashlib.sha256((stored / "model.safetensors").read_bytes()).hexdigest()
    assert said["sha256"]["model.safetensors"] == digest


@pytest.mark.parametrize("name", FILES[:2])
def test_a_flipped_bit_is_noticed(stored, name):
    data = bytearray((stored / name).read_bytes())
    data[-1] ^= 1
    (stored / name).write_bytes(data)
    with pytest.raises(ConfigError, match=f"{name}: is damaged"):
        export.load(stored)


def test_after_another_run_in_the_folder_the_summary_counts(finished, stored):
    shutil.copy(finished.folder / "summary.json", stored)
    said = json.loads((stored / "model.json").read_text())
    said["sha256"] = dict.fromkeys(said["sha256"], "0")
    (stored / "model.json").write_text(json.dumps(said))
    with pytest.raises(ConfigError, match="export it again"):
        export.load(stored)
    assert finished_run.read(stored, stale=True).masks.keys() == {"fc1.weight", "fc2.weight", "fc3.weight"}


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2}', '{"format": 1, "config": 3, "sha256": {}}'])
def test_a_strange_json_is_one_line(stored, content):
    (stored / "model.json").write_text(content)
    with pytest.raises(ConfigError, match=r"model.json: is damaged: ") as caught:
        export.load(stored)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_cannot_say_what_is_imported(stored):
    said = json.loads((stored / "model.json").read_text())
    said["config"]["trusted"] = ["os"]
    said["config"]["model"] = {"_target_": "os.mkdir", "path": str(stored / "owned")}
    (stored / "model.json").write_text(json.dumps(said))
    with pytest.raises(ConfigError, match=r"trusted=\[os\]"):
        export.load(stored)
    assert not (stored / "owned").exists()


def test_a_model_of_the_users_own_is_built_once_it_is_trusted(tmp_path, monkeypatch):
    text = "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    (tmp_path / "my_networks.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    own = ("model._target_=my_networks.net", "trusted=[my_networks]")
    result = prunelab.run(config(tmp_path, "model=lenet_300_100", *own), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"trusted=\[my_networks\]"):
        export.load(result.folder)
    x = torch.randn(5, 1, 28, 28)
    expected = result.model.eval()(x)
    assert torch.equal(export.load(result.folder, ["my_networks"])(x), expected)
    checkpoint.save(tmp_path, finished_run.read(result.folder, ["my_networks"]))
    assert torch.equal(fresh_outputs("safetensors", tmp_path, {"x": x}, ["my_networks"])["x"], expected)


def test_a_folder_without_a_finished_run(tmp_path):
    with pytest.raises(ConfigError, match=r"must be the folder of a finished run"):
        export.load(tmp_path)
    (tmp_path / "summary.json").write_text('{"status": "interrupted", "config": {}}')
    with pytest.raises(ConfigError, match="is interrupted; must be completed"):
        export.load(tmp_path)


def test_loading_draws_nothing_from_torchs_generator(finished):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    export.load(finished.folder)
    assert torch.equal(torch.rand(1), expected)


def test_gates_that_a_regularizer_added_are_rebuilt(tmp_path):
    result = prunelab.run(
        config(tmp_path, "model=deep_mlp", "model.depth=2", "regularizer=dynamic_gates"), tmp_path / "run"
    )
    x = torch.randn(5, 1, 28, 28)
    assert torch.equal(export.load(tmp_path / "run")(x), result.model.eval()(x))


def test_a_live_module_is_loaded_into_a_module_of_its_class(tmp_path):
    model = LeNet300100().eval()
    checkpoint.save(tmp_path, finished_run.Network(model))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    x = torch.randn(5, 1, 28, 28)
    assert torch.equal(checkpoint.load(tmp_path, lambda said: LeNet300100())(x), model(x))
    with pytest.raises(ConfigError, match="exported from a live module"):
        checkpoint.load(tmp_path, finished_run.builder(()))
