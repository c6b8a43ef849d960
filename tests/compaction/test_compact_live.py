"""`compact(model, example)` in anybody's own code: what it returns, prints and leaves alone."""

from __future__ import annotations

import torch
from torch import nn
from toy_networks import apart, parameters, zero_channels

from prunelab.compaction import compact
from prunelab.models.lenet import LeNet
from prunelab.pruning.masks import Masks


def test_it_prints_what_was_removed_and_the_proof():
    model = LeNet()
    zero_channels(model, "conv2", [0, 3])
    compacted = compact(model, torch.randn(8, 1, 28, 28))
    lines = str(compacted).splitlines()
    assert lines[0].startswith("on 16 inputs: the same class for all; largest difference ")
    assert lines[1:] == ["", "removed", "  conv2: 2 of 16 channels", "", "stays", "  nothing"]
    assert compacted.proof.agree


def test_a_model_with_masks_keeps_them():
    model = LeNet().train()
    masks = Masks(model)
    masks.add([(model.conv1, "weight"), (model.conv1, "bias")])
    for item in masks:
        item.mask[:2] = 0
    masks.apply()
    small = compact(model, torch.randn(2, 1, 28, 28)).model
    assert small.conv1.out_channels == 4
    assert masks.counts() == (4 * 9 + 4, 6 * 9 + 6)
    assert model.training
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    small(torch.randn(2, 1, 28, 28)).sum().backward()  # the smaller network trains like any other
    optimizer.step()
    assert model.conv1.out_channels == 6
    assert not masks.lost()


def test_token_numbers_are_inputs_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), nn.Linear(18, 8), nn.ReLU(), nn.Linear(8, 3))
    zero_channels(model, "2", [1, 5, 6])
    x = torch.randint(11, (20, 3))
    compacted = compact(model, x)
    assert compacted.removed == ["2: 3 of 8 neurons"]
    assert parameters(compacted.model) == parameters(model) - 3 * (18 + 1 + 3)
    assert apart(model, compacted.model, x) < 1e-6


def test_a_regression_is_no_classifier():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0))
    zero_channels(model, "0", [2])
    assert compact(model, torch.randn(9, 4)).removed == ["0: 1 of 6 neurons"]


def test_it_rounds_to_a_multiple():
    model = LeNet()
    zero_channels(model, "conv2", [0, 3, 5])
    assert compact(model, torch.randn(1, 1, 28, 28), round_to=8).model.conv2.out_channels == 16
