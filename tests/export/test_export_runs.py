"""Export and quantisation as a part of an experiment."""

import importlib.util
import json

import pytest
import torch
from conftest import overrides

import prunelab
from prunelab import training
from prunelab.config import ConfigError


def test_a_run_leaves_what_was_asked_for_and_is_loaded_again(tmp_path):
    few = overrides(tmp_path, "export=[safetensors]", "schedule.rounds=1", "seed=3")
    result = prunelab.run(prunelab.compose(*few))
    (row,) = json.loads((result.folder / "summary.json").read_text())["export"]
    assert row["same_classes"]
    loaded = prunelab.load(result.folder)
    inputs = torch.randn(5, 1, 28, 28)
    assert torch.equal(loaded.eval()(inputs), result.model.eval()(inputs))


@pytest.mark.parametrize(("asked", "package"), [("export=[onnx]", "onnxruntime"), ("quantize=int8_weight", "torchao")])
def test_a_missing_package_is_found_before_training(asked, package, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find("json"))
    monkeypatch.setattr(training, "fit", lambda *args, **how: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=f"needs {package}; pip install"):
        prunelab.run(prunelab.compose(*overrides(tmp_path, asked)))


def test_int8_is_in_the_summary(tmp_path):
    pytest.importorskip("torchao")
    result = prunelab.run(prunelab.compose(*overrides(tmp_path, "quantize=int8_weight", "schedule.rounds=1")))
    facts = json.loads((result.folder / "summary.json").read_text())["quantized"]
    assert facts["bytes_after"] < 0.3 * facts["bytes_before"]
    assert (result.folder / "model.int8_weight.safetensors").is_file()


@pytest.mark.parametrize("wrong", ["export=[zip]", "quantize=int4"])
def test_what_there_is_not_is_refused(wrong):
    with pytest.raises(ConfigError, match="must be"):
        prunelab.compose(wrong)
