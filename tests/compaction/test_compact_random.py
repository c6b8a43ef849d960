"""Random zeros in random small networks: the compact one always agrees. The oracle is the network itself."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from toy_networks import apart, settle

from prunelab.compaction import compact

ACTIVATIONS = {"relu": F.relu, "sigmoid": torch.sigmoid, "gelu": F.gelu, "tanh": torch.tanh, "elu": F.elu}
MANY = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


class RandomMLP(nn.Module):
    def __init__(self, widths, norm, residual, activation):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip([5, *widths], widths, strict=False))
        self.norms = nn.ModuleList(nn.BatchNorm1d(w) if norm else nn.Identity() for w in widths)
        self.head, self.residual, self.activation = nn.Linear(widths[-1], 3), residual, ACTIVATIONS[activation]

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            y = self.activation(norm(layer(x)))
            x = x + y if self.residual and y.shape == x.shape else y
        return self.head(x)


class RandomConv(nn.Module):
    def __init__(self, widths, norm, residual, activation, depthwise, padding, flatten, pool):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=padding, bias=not norm) for a, b in zip([2, *widths], widths, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) if norm else nn.Identity() for w in widths)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(w, w, 3, padding=1, groups=w) if depthwise else nn.Identity() for w in widths
        )
        side = 8 - 2 * (1 - padding) * len(widths)
        side = side // 2 if pool else side
        self.head = nn.Linear(widths[-1] * (side * side if flatten else 1), 3)
        self.residual, self.activation, self.flatten, self.pool = residual, ACTIVATIONS[activation], flatten, pool

    def forward(self, x):
        for conv, norm, depthwise in zip(self.convs, self.norms, self.depthwise, strict=True):
            y = depthwise(self.activation(norm(conv(x))))
            x = self.activation(x + y) if self.residual and y.shape == x.shape else y
        x = F.max_pool2d(x, 2) if self.pool else x
        return self.head(x.flatten(1) if self.flatten else x.mean((2, 3)))


@torch.no_grad()
def random_zeros(model, seed, share):
    """Sets rows, columns or single weights of every layer to zero, at random; biases with the rows, sometimes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=generator)

    for module in model.modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        mask = torch.ones_like(module.weight)
        rows = draw(mask.shape[0]) < share * draw(1)
        mask[rows] = 0
        mask.transpose(0, 1)[draw(mask.shape[1]) < share * draw(1) * 0.7] = 0
        mask[draw(*mask.shape) < 0.3 * draw(1)] = 0
        module.weight *= mask
        if module.bias is not None and draw(1) < 0.6:
            module.bias *= ~rows


def check(model, shape, seed, share):
    model = settle(model, shape, seed)
    random_zeros(model, seed, share)
    compacted = compact(model, torch.randn(1, *shape))
    x = torch.randn(16, *shape, generator=torch.Generator().manual_seed(seed + 1))
    assert apart(model, compacted.model, x) < 1e-5
    assert compacted.removed or compacted.kept_because


widths = st.one_of(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.just([5, 5, 5]), st.just([4, 4]))


@MANY
@given(
    widths=widths,
    norm=st.booleans(),
    residual=st.booleans(),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.3, 0.8, 1.6]),
)
def test_a_random_mlp_agrees(widths, norm, residual, activation, seed, share):
    torch.manual_seed(seed)
    check(RandomMLP(widths, norm, residual, activation), (5,), seed, share)


@MANY
@given(
    widths=widths,
    norm=st.booleans(),
    residual=st.booleans(),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    depthwise=st.booleans(),
    padding=st.sampled_from([0, 1]),
    flatten=st.booleans(),
    pool=st.booleans(),
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.3, 0.8, 1.6]),
)
def test_a_random_conv_net_agrees(widths, norm, residual, activation, depthwise, padding, flatten, pool, seed, share):
    torch.manual_seed(seed)
    model = RandomConv(widths, norm, residual, activation, depthwise, padding, flatten, pool)
    check(model, (2, 8, 8), seed, share)


@settings(MANY, max_examples=25)
@given(goes=st.sets(st.integers(0, 7), max_size=7), seed=st.integers(0, 1000))
def test_exactly_the_zero_neurons_of_a_plain_mlp_go(goes, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight[sorted(goes)] = 0
        model[0].bias[sorted(goes)] = 0
    small = compact(model, torch.randn(1, 4)).model
    kept = [i for i in range(8) if i not in goes]
    assert torch.equal(small[0].weight, model[0].weight[kept])
    assert torch.equal(small[2].weight, model[2].weight[:, kept])
    assert torch.equal(small[2].bias, model[2].bias)


def living(weights):
    """The widths that a plain MLP with masks needs: a neuron with no living input is a constant, one with no living
    output is unread. By counting paths, over and over, until nothing more dies.

    Args:
        weights: bool, [out, in] of each layer.
    """
    alive = [np.ones(w.shape[1], bool) for w in weights] + [np.ones(weights[-1].shape[0], bool)]
    while True:
        before = [a.sum() for a in alive]
        for i in range(1, len(weights)):
            feeds = (weights[i - 1] & alive[i - 1]).any(1)
            read = (weights[i] & alive[i + 1][:, None]).any(0)
            alive[i] &= feeds & read
        if before == [a.sum() for a in alive]:
            return [max(int(a.sum()), 1) for a in alive[1:-1]]


@settings(MANY)
@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    density=st.floats(0, 1),
    activation=st.sampled_from(["sigmoid", "relu"]),
    bias=st.booleans(),
)
def test_as_much_goes_as_counting_paths_says(widths, seed, density, activation, bias):
    torch.manual_seed(seed)
    model = RandomMLP(widths, False, False, activation)
    layers = [*model.layers, model.head]
    if not bias:
        for layer in layers:
            nn.init.zeros_(layer.bias)
    kept = [torch.rand(layer.weight.shape) < density for layer in layers]
    with torch.no_grad():
        for layer, mask in zip(layers, kept, strict=True):
            layer.weight *= mask
    small = compact(model, torch.randn(1, 5)).model
    found = [getattr(layer, "out_features", getattr(layer, "channels", None)) for layer in small.layers]
    assert found == living([mask.numpy() for mask in kept])
    assert apart(model, small, torch.randn(16, 5)) < 1e-5
