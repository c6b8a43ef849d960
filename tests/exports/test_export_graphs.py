"""Graphs: any batch size, the network's own numbers, without its code."""

import pytest
import torch
from export_networks import sparse_lenet
from torch import nn

from prunelab.errors import ConfigError
from prunelab.exports import graphs
from prunelab.exports.network_files import Network
from prunelab.models.lenet import LeNet
from prunelab.models.lstm import LSTM
from prunelab.models.residual_lenet import ResidualLeNet
from prunelab.models.vit import ViT

X = torch.randn(1, 1, 28, 28)


def network(kind):
    torch.manual_seed(0)
    return Network(kind().eval(), X)


@torch.no_grad()
def apart(run, model, batch):
    x = torch.randn(batch, 1, 28, 28)
    return float((run(x) - model(x)).abs().max())


@pytest.mark.parametrize("kind", [LeNet, ResidualLeNet, pytest.param(ViT, marks=pytest.mark.slow)])
def test_onnx_agrees_at_any_batch_size(tmp_path, kind):
    pytest.importorskip("onnxruntime")
    dense = network(kind)
    graphs.save_onnx(tmp_path, dense)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # its weights are in it
    run = graphs.load_onnx(tmp_path)
    assert run.session.get_inputs()[0].shape[0] == "batch"
    assert max(apart(run, dense.model, batch) for batch in (1, 2, 37)) <= 1e-4


def test_an_onnx_graph_has_no_masks(tmp_path):
    onnx = pytest.importorskip("onnx")
    graphs.save_onnx(tmp_path, Network(sparse_lenet(), X))
    nodes = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert "Mul" not in nodes
    assert nodes.count("Gemm") == 3


@pytest.mark.parametrize("kind", [LeNet, LSTM, pytest.param(ViT, marks=pytest.mark.slow)])
def test_torch_export_agrees_at_any_batch_size(tmp_path, kind):
    dense = network(kind)
    graphs.save_program(tmp_path, dense)
    run = graphs.load_program(tmp_path)
    assert max(apart(run, dense.model, batch) for batch in (1, 2, 37)) <= 1e-6


class Fickle(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10] * (2.0 if x.sum().item() > 0 else 1.0)


def test_code_that_no_graph_can_follow_is_one_line(tmp_path, capsys):
    with pytest.raises(ConfigError, match="Fickle cannot be traced for any batch size") as caught:
        graphs.program(Network(Fickle(), X))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")  # torch would dump the graph


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("prunelab.errors.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ConfigError, match=r'onnx needs onnxscript: pip install "prunelab\[onnx\]"'):
        graphs.save_onnx(tmp_path, Network(sparse_lenet(), X))
