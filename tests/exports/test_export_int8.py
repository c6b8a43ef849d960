"""Int8: a quarter of the bytes, zeros that stay zeros, and what is left in float is said."""

from importlib.util import find_spec

import forked
import pytest
import torch
from export_networks import sparse_lenet
from torch import nn

import prunelab
from prunelab import exports as export
from prunelab.costs.stored_tensors import numbers
from prunelab.data.mnist import mnist
from prunelab.errors import ConfigError
from prunelab.exports import int8
from prunelab.exports.int8 import quantize
from prunelab.exports.network_files import Network
from prunelab.models.lenet import LeNet, LeNet300100
from prunelab.models.vit import ViT


def load(kind, folder):
    return int8.load(kind, folder, lambda said: LeNet300100())


KINDS = ("int8_weight", "int8_dynamic")
torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")


@torchao
@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros_and_weights_move_by_half_a_step(kind):
    model = sparse_lenet()
    found = quantize(model, kind)
    assert found.layers == ["fc1", "fc2", "fc3"]
    assert found.zeros == sum(int((getattr(model, name).weight == 0).sum()) for name in found.layers)
    weight = numbers(found.model.fc1.weight)
    assert (weight[model.fc1.weight == 0] == 0).all()
    assert 0 < found.largest_error <= 0.51
    assert type(model.fc1.weight) is nn.Parameter  # the model itself stays as it is


@torchao
def test_a_row_by_hand():
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[127.0, 0.0, 1.4], [0.0, 2.55, 0.0]]))
    found = quantize(model, "int8_weight")
    # steps of 127 ÷ 127.5 and 2.55 ÷ 127.5 = 0.02; 127 of them are the most, and 1.4 is nearest to one
    expected = torch.tensor([[127 * 127 / 127.5, 0.0, 127 / 127.5], [0.0, 2.54, 0.0]])
    torch.testing.assert_close(numbers(found.model[0].weight), expected)
    assert (found.zeros, found.rounded_to_zero) == (3, 0)


@torchao
def test_one_line_and_plain_data():
    found = quantize(sparse_lenet(), "int8_weight", mnist(limit=300).test)
    assert str(found).startswith(f"int8_weight: {found.bytes_before:,} → {found.bytes_after:,} bytes (2")
    assert f", test accuracy {found.accuracy_before:.2%} → " in str(found)
    said = found.as_json()
    assert "model" not in said
    assert said["zeros"] == found.zeros


@torchao
def test_bytes_of_lenet_and_what_is_left_in_float():
    found = quantize(LeNet(), "int8_weight")
    assert found.bytes_after <= 0.3 * found.bytes_before
    assert found.left_in_float.keys() == {"conv1", "conv2"}
    assert "Linear layers only" in found.left_in_float["conv1"]


@torchao
def test_an_attention_layers_own_weights_stay_in_float():
    found = quantize(ViT(depth=1), "int8_weight")
    assert found.layers == ["blocks.0.mlp.0", "blocks.0.mlp.2", "head"]
    assert found.left_in_float["blocks.0.attention.out_proj"].endswith("another module reads its weight")
    assert "blocks.0.attention" in found.left_in_float
    assert found.model(torch.randn(2, 1, 28, 28)).shape == (2, 10)


@torchao
@pytest.mark.parametrize("kind", ["int8_weight", pytest.param("int8_dynamic", marks=pytest.mark.slow)])
def test_what_was_saved_comes_back_in_a_fresh_process(tmp_path, kind):
    found = quantize(sparse_lenet(), kind)
    int8.save(tmp_path, found, Network(sparse_lenet()))
    assert (tmp_path / int8.names(kind)[0]).stat().st_size == found.bytes_after
    x = torch.randn(5, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(load(kind, tmp_path)(x), found.model(x))
        expected = found.model(torch.ones(2, 1, 28, 28)).sum().item()
    forked.call(comes_back, kind, tmp_path, expected)


def comes_back(kind, folder, expected):
    assert load(kind, folder)(torch.ones(2, 1, 28, 28)).sum().item() == pytest.approx(expected, abs=1e-6)


@torchao
def test_a_flipped_bit_is_noticed(tmp_path):
    int8.write("int8_weight", tmp_path, Network(sparse_lenet()))
    path = tmp_path / int8.names("int8_weight")[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        load("int8_weight", tmp_path)


def test_what_cannot_be_quantised(monkeypatch):
    with pytest.raises(ConfigError, match=r"quantize=int4: must be null, int8_weight or int8_dynamic"):
        quantize(sparse_lenet(), "int4")
    with pytest.raises(ConfigError, match="has no Linear layer"):
        quantize(nn.Sequential(nn.Conv2d(1, 1, 3)), "int8_weight")
    monkeypatch.setattr("prunelab.errors.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'quantize needs torchao: pip install "prunelab\[quantize\]"'):
        quantize(sparse_lenet(), "int8_weight")


def test_a_zero_that_comes_back_is_refused(monkeypatch):
    def careless(model, kind, layers):
        for name in layers:
            model.get_submodule(name).weight.data += 1e-3

    monkeypatch.setattr(int8, "convert", careless)
    with pytest.raises(ConfigError, match="pruned weights of fc1 are not zero any more"):
        quantize(sparse_lenet(), "int8_weight")


@torchao
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_pruned_lenet_in_int8_keeps_its_accuracy_at_30_percent_of_the_bytes(tmp_path_factory, kind):
    outputs = tmp_path_factory.getbasetemp() / "quantized"
    chosen = prunelab.compose(
        "amount=0.8", "schedule=one_shot", "train.epochs=1", "threads=1", f"outputs={outputs}", "data.limit=20000"
    )
    folder = prunelab.run(chosen, outputs / kind).folder
    found = quantize(export.load(folder), kind, mnist(limit=20_000).test)
    print(f"\n{found}")
    assert abs(found.accuracy_before - found.accuracy_after) <= 0.003
    assert found.bytes_after <= 0.3 * found.bytes_before
