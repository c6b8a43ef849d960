"""Conversion to the form of torch.nn.utils.prune, and back."""

import copy

import pytest
import torch
from networks_to_prune import NETWORKS, Tied, batch, drawn, train
from torch import nn
from torch.nn.utils import prune

from prunelab.pruning.masks import Masks, named
from prunelab.pruning.pruner import Pruner
from prunelab.pruning.torch_prune import from_torch_prune, to_torch_prune

every_network = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)


@every_network
def test_the_form_of_torch_has_the_same_weights_under_its_own_names(build):
    model = drawn(build)
    pruner = Pruner(model, allocation="local")
    pruner.prune(0.5)
    plain, state = copy.deepcopy(model), pruner.masks.state()
    names = [item.name for item in pruner.masks]
    assert to_torch_prune(pruner.masks) is model
    assert prune.is_pruned(model)
    stored = model.state_dict()
    for name in names:
        assert torch.equal(stored[f"{name}_mask"].bool(), state[name])
        assert f"{name}_orig" in dict(model.named_parameters())
    assert torch.equal(model(batch()[0]), plain(batch()[0]))


@every_network
def test_there_and_back_changes_nothing(build):
    model = drawn(build)
    pruner = Pruner(model, allocation="local")
    pruner.prune(0.5)
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, pruner.masks.state()
    shared = [(name, id(p)) for name, _, _, p in named(model)]
    masks = from_torch_prune(to_torch_prune(pruner.masks))
    assert not prune.is_pruned(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert {name: mask.tolist() for name, mask in masks.state().items()} == {k: m.tolist() for k, m in state.items()}
    assert sorted((name, id(p)) for name, _, _, p in named(model)) == sorted(shared)
    train(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
    assert masks.lost() == []


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_both_forms_train_alike(optimizer):
    model = drawn(Tied)
    pruner = Pruner(model, allocation="local")
    pruner.prune(0.5)
    other = drawn(Tied)
    other_pruner = Pruner(other, allocation="local")
    other_pruner.prune(0.5)
    to_torch_prune(other_pruner.masks)
    for network in (model, other):
        train(network, optimizer(network.parameters(), 0.01))
    effective = other.emb.weight_orig * other.emb.weight_mask
    assert torch.equal(model.emb.weight, effective)
    assert torch.equal(model.mix.weight, other.mix.weight_orig * other.mix.weight_mask)


def test_masks_of_torch_become_masks_of_ours():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_unstructured(model[0], "bias", 1)
    prune.ln_structured(model[2], "weight", 0.5, 2, 0)
    expected = {
        name.removesuffix("_mask"): mask.bool().tolist() for name, mask in model.named_buffers() if "_mask" in name
    }
    weights = [model[0].weight.clone(), model[0].bias.clone(), model[2].weight.clone()]
    masks = from_torch_prune(model)
    assert {name: mask.tolist() for name, mask in masks.state().items()} == expected
    assert all(
        torch.equal(a, b) for a, b in zip(weights, [model[0].weight, model[0].bias, model[2].weight], strict=True)
    )
    assert set(dict(model.named_parameters())) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_of_a_shared_parameter_with_two_masks_both_hold():
    model = drawn(Tied)
    prune.custom_from_mask(model.emb, "weight", torch.arange(32).view(8, 4) % 2)
    prune.custom_from_mask(model.dec, "weight", torch.arange(32).view(8, 4) % 3)
    # torch's modules share weight_orig no longer by name; the parameter is one
    assert model.emb.weight_orig is model.dec.weight_orig
    masks = from_torch_prune(model)
    assert model.emb.weight is model.dec.weight
    expected = [i % 2 != 0 and i % 3 != 0 for i in range(32)]
    assert masks.state()["emb.weight"].flatten().tolist() == expected
    assert masks.lost() == []


@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk")
def test_recurrent_and_attention_layers_go_there_and_back():
    model = nn.ModuleList([nn.LSTM(3, 4), nn.MultiheadAttention(4, 2)])
    pruner = Pruner(model, allocation="local")
    pruner.prune(0.5)
    state, x = pruner.masks.state(), torch.rand(5, 2, 3)
    expected = model[0](x)[0]
    to_torch_prune(pruner.masks)
    torch.testing.assert_close(model[0](x)[0], expected)
    masks = from_torch_prune(model)
    torch.testing.assert_close(model[0](x)[0], expected)
    assert {name: mask.tolist() for name, mask in masks.state().items()} == {k: m.tolist() for k, m in state.items()}


def test_a_model_that_torch_has_not_pruned_has_no_masks():
    assert list(from_torch_prune(nn.Linear(2, 2))) == []
    assert isinstance(from_torch_prune(nn.Linear(2, 2)), Masks)
