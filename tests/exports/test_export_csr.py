"""CSR layers: the same numbers without the zeros, and faster."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from export_networks import sparse_lenet
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from torch import nn

from prunelab import exports as export
from prunelab.costs.latency import race
from prunelab.errors import ConfigError
from prunelab.exports import csr, network_files
from prunelab.exports.csr import CSRLinear, sparsify
from prunelab.exports.network_files import Network
from prunelab.models.lenet import LeNet300100
from prunelab.pruning import skipping


def linear(weight, bias=None):
    made = nn.Linear(len(weight[0]), len(weight), bias is not None)
    with torch.no_grad():
        made.weight.copy_(torch.tensor(weight))
        if bias is not None:
            made.bias.copy_(torch.tensor(bias))
    return made


def test_rows_by_hand():
    layer = CSRLinear.of(linear([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0]], [1.0, 5.0, 0.0]))
    assert layer.crow.tolist() == [0, 1, 1, 3]
    assert layer.col.tolist() == [1, 0, 2]
    assert layer.values.tolist() == [2.0, 3.0, 4.0]
    assert layer(torch.tensor([[1.0, 10.0, 100.0]])).tolist() == [[21.0, 5.0, 403.0]]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (1,), (5,), (2, 3)]), st.booleans(), st.integers(0, 99)
)
def test_it_computes_what_the_dense_layer_computes(inputs, outputs, batch, bias, seed):
    torch.manual_seed(seed)
    dense = nn.Linear(inputs, outputs, bias).double()
    with torch.no_grad():
        dense.weight.mul_(torch.rand_like(dense.weight) < 0.4)
        x = torch.randn(*batch, inputs, dtype=torch.float64)
        torch.testing.assert_close(CSRLinear.of(dense)(x), dense(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("pruned", "stored"), [(1843, True), (1840, False)])
def test_ninety_percent_are_enough_as_an_amount_of_ninety_percent_rounds_them(pruned, stored):
    dense = nn.Linear(128, 16)
    with torch.no_grad():
        dense.weight.view(-1)[:pruned] = 0
    assert bool(sparsify(nn.Sequential(dense)).layers) == stored


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 7, 256])
def test_it_computes_the_same_on_a_gpu(batch):
    dense = nn.Linear(300, 100).cuda()
    with torch.no_grad():
        dense.weight[torch.rand(100, 300, device="cuda") < 0.9] = 0
    x = torch.randn(batch, 300, device="cuda")
    for sparse in (CSRLinear.of(dense), CSRLinear.of(deepcopy(dense).cpu()).cuda()):
        assert {tensor.device.type for tensor in sparse.state_dict().values()} == {"cuda"}
        torch.testing.assert_close(sparse(x), dense(x), rtol=1e-4, atol=1e-5)


def test_values_are_what_it_computes_with_and_a_copy_is_its_own():
    layer = CSRLinear.of(linear([[0.0, 2.0]]))
    x = torch.tensor([[1.0, 1.0]])
    assert layer(x).item() == 2.0
    other = deepcopy(layer)
    layer.values.data.fill_(7.0)
    assert (layer(x).item(), other(x).item()) == (7.0, 2.0)
    assert layer.double()(x.double()).dtype == torch.float64


def test_only_what_is_sparse_enough_is_replaced():
    model = sparse_lenet()
    with torch.no_grad():
        model.fc2.weight.fill_(1.0)
    sparse = sparsify(model)
    assert sparse.layers == {"fc1": [784, 300, 11760]}
    assert "0.0% of its weights are zero" in sparse.left["fc2"]
    assert "1,000 weights" in sparse.left["fc3"]
    assert type(model.fc1) is nn.Linear  # the model itself stays as it is


def test_a_layer_whose_weight_another_module_reads_is_left_alone():
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(torch.rand_like(parameter) < 0.05)
    sparse = sparsify(nn.Sequential(model, nn.Linear(64, 64), nn.Linear(64, 64)), 0.0)
    assert set(sparse.layers) == {"1", "2"}
    assert "another module" in sparse.left["0.self_attn.out_proj"]
    assert "another module" in sparse.left["0.linear1"]  # in the fused forward pass
    x = torch.randn(2, 5, 64)
    with torch.no_grad():
        assert torch.equal(sparse.model[0](x), model(x))


def test_a_layer_that_is_removed_is_not_said_to_be_another_kind_of_layer():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).eval()
    with torch.no_grad():
        model[0].weight.zero_()
    skipping.set_skipped(model[0], True)
    assert sparsify(model).left["0"] == "is removed: the forward pass leaves it out"


def saved(folder):
    network = Network(sparse_lenet())
    csr.save(folder, network)
    return network.model


def load(folder):
    return csr.load(folder, lambda said: LeNet300100())


def test_what_was_saved_comes_back(tmp_path):
    model = saved(tmp_path)
    x = torch.randn(33, 1, 28, 28)
    loaded = load(tmp_path)
    assert isinstance(loaded.fc1, CSRLinear)
    assert (loaded(x) - model(x)).abs().max() <= 1e-5
    said = json.loads((tmp_path / "model.csr.json").read_text())
    assert said["layers"]["fc1"] == [784, 300, 11760]
    stored = load_file(tmp_path / "model.csr.safetensors")
    assert stored["fc1.values"].size == 11760
    assert (tmp_path / "model.csr.safetensors").stat().st_size < 0.15 * 4 * 266_610


def test_a_flipped_bit_is_noticed(tmp_path):
    saved(tmp_path)
    path = tmp_path / "model.csr.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged"):
        load(tmp_path)


def test_columns_that_there_are_not_are_no_crash(tmp_path, monkeypatch):
    saved(tmp_path)
    path = tmp_path / "model.csr.safetensors"
    tensors = load_file(path)
    tensors["fc1.col"] = np.full_like(tensors["fc1.col"], 10**6)
    save_file(tensors, path)
    monkeypatch.setattr(network_files, "verify", lambda *arguments: None)  # as somebody would who forges both
    with pytest.raises(ConfigError, match="does not fit"):
        load(tmp_path)


def test_a_dense_network_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigError, match=r"export=csr: no layer .*fc1: 0.0% of its weights are zero"):
        csr.save(tmp_path, Network(sparse_lenet(0.0)))
    assert not list(tmp_path.glob("model.csr*"))


@pytest.mark.slow
def test_95_percent_zeros_are_twice_as_fast_at_batch_64(finished):
    torch.set_num_threads(1)
    model = export.load(finished.folder)
    x = torch.randn(64, 1, 28, 28)
    speedup = race({"dense": model, "csr": sparsify(model).model}, x, "dense", 301)["csr"].speedup
    print(f"\nCSR against dense at batch 64: {speedup}")
    assert speedup.median >= 2
