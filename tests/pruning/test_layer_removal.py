"""Removal of whole layers: by number, fraction and threshold; the masks alone know which are gone."""

import copy
import io

import pytest
import torch
from networks_to_prune import drawn
from torch import nn

from prunelab.errors import ConfigError
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.lenet import LeNet
from prunelab.pruning import skipping
from prunelab.pruning.layer_removal import LayerRemoval, mark_layers
from prunelab.pruning.masks import Masks
from prunelab.pruning.prunable import select


class Adds(nn.Module):
    """x + its number: what each layer is worth can be counted on one's fingers."""

    def __init__(self, value):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.value = value

    def forward(self, x):
        return x + self.value


def adding(*values):
    """The masks of a network of such layers, marked."""
    model = nn.Sequential(*(Adds(value) for value in values))
    mark_layers(model, (1,))
    masks = Masks(model)
    masks.add(select(model))
    return masks


def remove(masks, target, amount=None, chosen=None, **how):
    """Removes layers; a layer is worth what the network is off `target` for 0 without it."""
    removal = LayerRemoval(masks, [item.name for item in masks] if chosen is None else chosen, **how)
    removal.remove(amount, lambda: abs(float(masks.model(torch.zeros(1, 1))) - target))
    masks.apply()
    return skipping.skipped(masks.model)


@pytest.mark.parametrize(
    ("how", "gone"),
    [
        ({}, ["2"]),
        ({"amount": 0.0}, []),
        ({"count": 1}, ["2"]),
        ({"count": 2}, ["1", "2"]),  # 2 − 0.5 costs 0.5; then 3 is as far off as 2, −1 far more
        ({"count": 9}, ["0", "1", "2"]),
        ({"amount": 0.5}, ["1", "2"]),  # round(1.5) = 2
        ({"threshold": 0.4}, []),
        ({"threshold": 0.5}, ["1", "2"]),
        ({"threshold": 2.4}, ["1", "2"]),
        ({"threshold": 2.5}, ["0", "1", "2"]),
    ],
)
def test_the_least_important_go_first(how, gone):
    assert remove(adding(3.0, -1.0, 0.5), 2.5, **how) == gone


def test_importance_is_looked_up_anew():
    """1 and −1 cancel out: without one of them the other is worth something else."""
    assert remove(adding(1.0, -1.0, 1.2), 1.2, count=2) == ["0", "1"]


def test_a_threshold_counts_from_the_loss_that_there_is():
    """The network is 1 off already; without 0.5 it is 0.5 off, without −1 too then 1.5."""
    assert remove(adding(3.0, -1.0, 0.5), 1.5, threshold=0.0) == ["2"]


def test_rounds_go_on_from_each_other():
    masks = adding(3.0, -1.0, 0.5)
    assert remove(masks, 2.5) == ["2"]
    assert remove(masks, 2.5) == ["1", "2"]
    assert remove(masks, 2.5, amount=0.5) == ["1", "2"]  # round(0.5 · 1) = 0
    assert remove(masks, 2.5, count=1) == ["0", "1", "2"]
    with pytest.warns(UserWarning, match="every layer that may be removed is gone"):
        remove(masks, 2.5)


def test_a_removed_layer_has_no_weights_and_hands_on_what_it_is_given():
    masks = adding(3.0, -1.0, 0.5)
    remove(masks, 2.5)
    assert float(masks.model(torch.zeros(1, 1))) == 2.0
    kept = {item.name: bool(item.mask.all()) for item in masks}
    assert kept == {f"{i}.linear.{p}": i != 2 for i in range(3) for p in ("weight", "bias")}
    assert not masks.model[2].linear.weight.any()


def test_remove_names_what_it_removed_in_its_order():
    masks = adding(3.0, -1.0, 0.5)
    removal = LayerRemoval(masks, [item.name for item in masks], count=2)
    assert removal.remove(None, lambda: abs(float(masks.model(torch.zeros(1, 1))) - 2.5)) == ["2", "1"]
    assert (removal.number(None, 3), removal.number(None, 1), removal.weights()) == (2, 1, [2, 2, 2])


def test_the_masks_alone_bring_a_network_without_layers_back():
    masks = adding(3.0, -1.0, 0.5)
    remove(masks, 2.5)
    pruned = masks.state()
    masks.load({})
    masks.apply()
    assert skipping.skipped(masks.model) == []
    assert float(masks.model(torch.zeros(1, 1))) == 2.5
    other = adding(3.0, -1.0, 0.5)
    other.load(pruned)
    other.apply()
    assert skipping.skipped(other.model) == ["2"]


@pytest.mark.parametrize("through", ["deepcopy", "torch.save"])
def test_copies_leave_the_same_layers_out(through):
    masks = adding(3.0, -1.0, 0.5)
    remove(masks, 2.5)
    if through == "deepcopy":
        copied = copy.deepcopy(masks.model)
    else:
        file = io.BytesIO()
        torch.save(masks.model, file)
        file.seek(0)
        copied = torch.load(file, weights_only=False)
    assert skipping.skipped(copied) == ["2"]
    assert float(copied(torch.zeros(1, 1))) == 2.0


def test_a_layer_of_which_a_part_is_left_alone_stays_whole():
    chosen = [f"{i}.linear.weight" for i in (0, 1)]
    assert remove(adding(3.0, -1.0, 0.5), 2.5, chosen=chosen, count=1) == ["1"]
    with pytest.raises(ConfigError, match=r"prune\.include and prune\.exclude leave none whole of 0, 1, 2"):
        remove(adding(3.0, -1.0, 0.5), 2.5, chosen=[])


def test_a_loss_that_fails_leaves_the_network_whole():
    masks = adding(3.0, -1.0, 0.5)
    calls = iter([1.0])
    with pytest.raises(StopIteration):
        LayerRemoval(masks, [item.name for item in masks]).remove(None, lambda: next(calls))
    assert skipping.skipped(masks.model) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"amount": 0.5, "count": 1}, "amount=0.5, strategy.count=1: must be one of them"),
        ({"threshold": 0.1, "count": 1}, "strategy.count=1, strategy.threshold=0.1"),
        ({"count": 0}, "strategy.count=0: must be a whole number ≥ 1"),
        ({"count": 1.5}, "strategy.count=1.5"),
        ({"count": True}, "strategy.count=True"),
        ({"threshold": -0.1}, "strategy.threshold=-0.1: must be a number ≥ 0"),
        ({"threshold": float("nan")}, "strategy.threshold=nan"),
    ],
)
def test_a_wrong_value_is_refused(how, said):
    with pytest.raises(ConfigError, match=said):
        remove(adding(3.0, -1.0, 0.5), 2.5, **how)


def test_a_network_without_such_layers_is_refused():
    with pytest.raises(ConfigError, match="no layer of LeNet keeps its input's shape"):
        mark_layers(LeNet(), (1, 28, 28))
    with pytest.raises(ConfigError, match="strategy=layer: must know the shape of an example"):
        mark_layers(LeNet(), None)


def test_removed_layers_of_a_real_network_train_on_as_the_identity():
    model = drawn(lambda: DeepMLP(20, 3))
    mark_layers(model, (1, 28, 28))
    masks = Masks(model)
    masks.add(select(model))
    LayerRemoval(masks, [item.name for item in masks]).remove(None, lambda: 0.0)
    masks.apply()
    assert skipping.skipped(model) == ["blocks.0"]
    twin = copy.deepcopy(model)
    twin.blocks[0] = nn.Identity()
    x = torch.randn(4, 1, 28, 28)
    assert torch.equal(model(x), twin(x))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    model(x).square().sum().backward()
    optimizer.step()
    assert masks.lost() == []
    assert not any(p.any() for p in model.blocks[0].parameters() if p.dim())
