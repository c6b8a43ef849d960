import math

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from prunelab import masks, metrics
from prunelab.models.lenet import LeNet, LeNet300100

IMAGE = torch.zeros(1, 1, 28, 28)
LENET_MACS = {
    "conv1": 6 * 9 * 26 * 26,
    "conv2": 16 * 6 * 9 * 11 * 11,
    "fc1": 400 * 120,
    "fc2": 120 * 84,
    "fc3": 84 * 10,
}


class Normed(nn.Module):
    """4 conv weights, 4 + 4 batch norm parameters, 8 linear weights, 2 biases: 22 parameters, all 1."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)
        for parameter in self.parameters():
            nn.init.ones_(parameter)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


def ones(model):
    """The model with every parameter 1 and masks of ones."""
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    masks.attach(masks.select(model))
    return model


def cost(model, example):
    return metrics.cost(model, metrics.layers(model, example))


def test_layers_of_lenet_in_the_order_in_which_they_run():
    found = metrics.layers(LeNet(), IMAGE)
    assert {layer.name: layer.weight.numel() * layer.positions for layer in found} == LENET_MACS
    assert [layer.name for layer in found] == list(LENET_MACS)
    assert [layer.positions for layer in found] == [26 * 26, 11 * 11, 1, 1, 1]


def test_cost_of_a_dense_lenet():
    row = cost(ones(LeNet()), IMAGE)
    assert row == {
        "sparsity": 0,
        "sparsity_total": 0,
        "nonzero": 60_074,
        "parameters": 60_074,
        "compression_ratio": 1,
        "macs": 199_968,
        "macs_nonzero": 199_968,
        "theoretical_speedup": 1,
    }
    assert row["macs"] == sum(LENET_MACS.values())


def test_cost_of_lenet_300_100():
    row = cost(ones(LeNet300100()), IMAGE)
    assert row["macs"] == 784 * 300 + 300 * 100 + 100 * 10 == 266_200
    assert row["parameters"] == 266_200 + 410


def test_cost_after_a_mask_made_by_hand():
    model = ones(LeNet())
    model.conv1.weight_mask[:3] = 0  # 27 of 54 weights, each used 676 times
    model.fc1.weight_mask[:, 100:] = 0  # 36,000 of 48,000 weights, each used once
    row = cost(model, IMAGE)
    assert row["nonzero"] == 60_074 - 36_027
    assert row["parameters"] == 60_074
    assert row["sparsity"] == 36_027 / 59_838
    assert row["sparsity_total"] == pytest.approx(36_027 / 60_074)
    assert row["compression_ratio"] == 60_074 / 24_047
    assert row["macs"] == 199_968
    assert row["macs_nonzero"] == 199_968 - 27 * 676 - 36_000 == 145_716
    assert row["theoretical_speedup"] == 199_968 / 145_716


def test_cost_reads_through_the_masks_when_weights_are_stale():
    model = ones(nn.Sequential(nn.Linear(4, 1)))
    running = metrics.layers(model, torch.ones(1, 4))
    model[0].weight_mask[0, :2] = 0  # module.weight is still all ones
    row = metrics.cost(model, running)
    assert (row["nonzero"], row["macs_nonzero"], row["sparsity"]) == (3, 2, 0.5)
    model[0].weight_mask.fill_(1)
    with torch.no_grad():
        model[0].weight_orig[0, 0] = 0
    row = metrics.cost(model, running)
    assert (row["nonzero"], row["macs_nonzero"], row["sparsity"]) == (4, 3, 0.25)


def test_cost_is_the_same_before_and_after_baking():
    model = ones(Normed())
    example = torch.ones(1, 1, 2, 2)
    model.conv.weight_mask[1:] = 0
    masked = cost(model, example)
    baked = cost(masks.bake(model), example)
    assert masked.pop("sparsity") == 3 / 12
    assert baked.pop("sparsity") == 0  # nothing has a mask any more
    assert baked == masked


def test_sparsity_counts_prunable_tensors_and_sparsity_total_the_whole_model():
    model = ones(Normed())
    model.conv.weight_mask[:2] = 0
    model.fc.weight_mask[0] = 0
    row = cost(model, torch.ones(1, 1, 3, 3))
    assert row["parameters"] == 4 + 8 + 8 + 2
    assert row["nonzero"] == 22 - 6
    assert row["sparsity"] == 6 / 12
    assert row["sparsity_total"] == pytest.approx(6 / 22)
    assert row["compression_ratio"] == 22 / 16
    assert (row["macs"], row["macs_nonzero"]) == (4 * 9 + 8, 2 * 9 + 4)


def test_a_masked_bias_counts_as_prunable_but_costs_no_macs():
    model = ones(nn.Sequential(nn.Linear(2, 2)))
    prune.custom_from_mask(model[0], "bias", torch.tensor([0.0, 1.0]))
    row = cost(model, torch.ones(1, 2))
    assert row["sparsity"] == 1 / 6
    assert row["sparsity_total"] == pytest.approx(1 / 6)
    assert row["macs"] == row["macs_nonzero"] == 4


def test_nothing_left_is_infinitely_small_and_fast():
    model = ones(nn.Sequential(nn.Linear(2, 2, bias=False)))
    model[0].weight_mask.zero_()
    row = cost(model, torch.ones(1, 2))
    assert row["compression_ratio"] == row["theoretical_speedup"] == math.inf
    assert row["sparsity"] == row["sparsity_total"] == 1


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(self.fc(x))


def test_a_layer_that_runs_twice_costs_twice():
    assert cost(ones(Twice()), torch.ones(1, 2))["macs"] == 8


def test_a_linear_layer_over_a_sequence_runs_at_each_position():
    assert cost(ones(nn.Sequential(nn.Linear(2, 3))), torch.ones(1, 5, 2))["macs"] == 5 * 6


def test_a_grouped_convolution():
    model = ones(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4)))
    assert cost(model, torch.ones(1, 4, 6, 6))["macs"] == 4 * 9 * 3 * 3


def test_a_transposed_convolution_uses_each_weight_once_per_input_position():
    model = ones(nn.Sequential(nn.ConvTranspose2d(1, 1, 2, stride=2)))
    assert cost(model, torch.ones(1, 1, 3, 3))["macs"] == 4 * 3 * 3  # a 6 × 6 output, one multiply-add each


def test_layers_leaves_the_model_as_it_was():
    model = Normed().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    metrics.layers(model, torch.full((1, 1, 2, 2), 7.0))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_removes_its_hooks_when_the_model_fails():
    model = LeNet().train()
    with pytest.raises(RuntimeError):
        metrics.layers(model, torch.zeros(1, 3, 28, 28))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_per_layer():
    model = ones(LeNet())
    model.conv1.weight_mask[0] = 0
    model.fc3.weight_mask[:, 21:] = 0
    rows = list(metrics.per_layer(model))
    assert [row["tensor"] for row in rows] == [f"{name}.weight" for name in LENET_MACS]
    assert [row["shape"] for row in rows] == ["6x1x3x3", "16x6x3x3", "120x400", "84x120", "10x84"]
    assert [row["size"] for row in rows] == [54, 864, 48_000, 10_080, 840]
    assert [row["nonzero"] for row in rows] == [45, 864, 48_000, 10_080, 210]
    assert [row["sparsity"] for row in rows] == pytest.approx([1 / 6, 0, 0, 0, 0.75])
