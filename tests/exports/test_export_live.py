"""`export(model, folder, …)`: a live module, written, loaded again, compared; loaded here by others' means."""

import importlib.util
import json
import sys

import pytest
import torch
from export_networks import sparse_lenet
from safetensors.torch import load_file
from torch import nn

from prunelab.errors import ConfigError
from prunelab.exports import export
from prunelab.pruning.masks import Masks

X = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def need(*packages):
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")


def test_the_state_dict(tmp_path):
    model = sparse_lenet()
    (row,) = export(model, tmp_path / "new" / "folder", example=X)
    assert row.files == ("model.safetensors", "model.json")
    assert (row.kind, row.same_classes, row.inputs) == ("safetensors", True, 5 + 64)
    stored = load_file(tmp_path / "new" / "folder" / "model.safetensors")
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())
    assert json.loads((tmp_path / "new" / "folder" / "model.json").read_text())["config"] is None


def test_onnx(tmp_path):
    need("onnxruntime", "onnxscript")
    import onnxruntime

    model = sparse_lenet()
    (row,) = export(model, tmp_path, ["onnx"], example=X)
    assert row.largest_difference <= 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": X.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(X).detach(), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_several_kinds(tmp_path):
    rows = export(sparse_lenet(), tmp_path, ["torch_export", "csr"], example=X.repeat(40, 1, 1, 1))
    assert [row.files for row in rows] == [("model.pt2",), ("model.csr.safetensors", "model.csr.json")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.csr.json", "model.csr.safetensors", "model.pt2"]
    assert (tmp_path / "model.pt2").stat().st_size < 4 * 266_610 + 40_000  # the examples are not in it
    with torch.no_grad():
        found = torch.export.load(tmp_path / "model.pt2").module()(X)
    torch.testing.assert_close(found, sparse_lenet()(X).detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["int8_weight", "int8_dynamic"])
def test_int8(tmp_path, kind):
    need("torchao")
    (row,) = export(sparse_lenet(), tmp_path, [kind], example=X)
    assert row.files == (f"model.{kind}.safetensors", f"model.{kind}.json")
    assert (tmp_path / row.files[0]).stat().st_size < 0.3 * 4 * 266_610


def test_the_module_stays_as_it_is(tmp_path):
    model = sparse_lenet().train()
    masks = Masks(model)
    masks.add([(model.fc1, "weight")])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export(model, tmp_path, ["safetensors", "csr"], example=X)
    assert model.training
    assert [item.name for item in masks] == ["fc1.weight"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_module_that_is_not_a_classifier_and_reads_token_numbers(tmp_path):
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 1), nn.Flatten(0))
    (row,) = export(model, tmp_path, example=torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert (row.largest_difference, row.inputs) == (0.0, 2)


@pytest.mark.parametrize(
    ("kind", "said"), [("csr", "no layer can be stored as CSR"), ("tflite", "export=tflite: must be one of")]
)
def test_what_cannot_be_written_is_said(tmp_path, kind, said):
    with pytest.raises(ConfigError, match=said):
        export(nn.Sequential(nn.Flatten(), nn.Linear(784, 2)), tmp_path, [kind], example=X)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("prunelab.errors.find_spec", lambda name: None if name == "torchao" else sys)
    with pytest.raises(ConfigError, match=r'pip install "prunelab\[quantize\]"'):
        export(sparse_lenet(), tmp_path, ["int8_weight"], example=X)
