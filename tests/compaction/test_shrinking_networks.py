"""Networks of many kinds, with whole channels zero: the widths that are left are counted by hand, the outputs stay."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy_networks import Net, apart, zero_channels

from prunelab.compaction import compact, load, save

conv, linear = nn.Conv2d, nn.Linear
IMAGE = (2, 8, 8)


def shuffled(m, x):
    """ShuffleNet's unit: the second half of the channels goes through a branch, and the halves are interleaved."""
    left, right = F.relu(m.a(x)).chunk(2, 1)
    x = torch.cat([left, F.relu(m.c(m.dw(F.relu(m.b(right)))))], 1)
    n, c, h, w = x.shape
    x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    return m.out(x.mean((2, 3)))


def squeezed(m, x):
    x = F.relu(m.norm(m.a(x)))
    return m.out((x * torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3), keepdim=True)))))).mean((2, 3)))


def inverted(m, x):
    x = F.relu(m.stem(x))
    x = x + m.project(F.relu6(m.dw(F.relu6(m.expand(x)))))
    return m.out(x.flatten(2).mean(-1))


def concatenated(m, x):
    x = F.relu(m.a(x))
    y = F.relu(m.b(x))
    z = torch.cat((x, y, F.max_pool2d(x, 3, 1, 1)), dim=1)
    return m.out(F.adaptive_avg_pool2d(m.c(z), 1).flatten(1))


def split(m, x):
    one, two, three = torch.split(F.relu(m.a(x)), [2, 2, 4], 1)
    return m.out((m.b(three) + one + two).mean((2, 3)))


def gated(m, x):
    gate, value = m.a(x).chunk(2, -1)
    return m.out(F.silu(gate) * value)


def scaled(m, x):
    x = F.gelu(m.a(x)) * m.scale.view(1, -1, 1, 1)
    return m.out(x.mean((2, 3)))


def outer(m, x):
    x = F.relu(m.a(x))
    return m.b(x.mean((2, 3))), {"more": m.c(x.amax((2, 3)))}


def functional(m, x):
    x = F.relu(F.conv2d(x, m.a.weight, m.a.bias, padding=1))
    return F.linear(x.mean((2, 3)), m.out.weight, m.out.bias)


def cut_out(m, x):
    canvas = x.new_zeros(len(x), 4, 6, 6)
    canvas[:] = F.relu(m.a(x))
    return m.out(canvas.mean((2, 3)))


def grouped_norm(m, x):
    return m.out(F.relu(m.norm(m.a(x))).mean((2, 3)))


def tied(m, x):
    return m.dec(torch.relu(m.mix(m.emb(x).flatten(1))))


def tie(m):
    m.dec.weight = m.emb.weight
    return m


def scale(m):
    m.scale = nn.Parameter(torch.rand(6))
    return m


def shuffle_net():
    """One unit of ShuffleNet: half of the channels go through convolutions, then the channels are shuffled."""
    dw = conv(4, 4, 3, padding=1, groups=4)
    return Net(shuffled, a=conv(2, 8, 3), b=conv(4, 4, 1), dw=dw, c=conv(4, 4, 1), out=linear(8, 3))


BLOCK = {"stem": conv(2, 4, 3), "expand": conv(4, 8, 1), "dw": conv(8, 8, 3, padding=1, groups=8)}
CASES = {  # name: network, channels that are zeroed, sizes that must be left
    "shuffle": (
        shuffle_net,
        {"b": [0, 2], "dw": [0, 2]},
        {"a.out_channels": 8, "b.out_channels": 2, "dw.groups": 2, "c.in_channels": 2},
    ),
    "shuffle of whole units": (
        shuffle_net,
        {"a": [1, 5], "c": [1]},
        {"a.out_channels": 6, "b.in_channels": 3, "c.out_channels": 3, "out.in_features": 6},
    ),
    "squeeze and excitation": (
        lambda: Net(
            squeezed, a=conv(2, 6, 3), norm=nn.BatchNorm2d(6), down=conv(6, 3, 1), up=conv(3, 6, 1), out=linear(6, 3)
        ),
        {"a": [1, 4], "norm": [1, 4], "down": [0]},
        {"a.out_channels": 4, "norm.num_features": 4, "down.out_channels": 2, "up.out_channels": 4},
    ),
    "inverted residual": (
        lambda: Net(inverted, **BLOCK, project=conv(8, 4, 1), out=linear(4, 3)),
        {"expand": [0, 3, 7], "dw": [0, 3, 7], "project": [2], "stem": [2]},
        {"expand.out_channels": 5, "dw.groups": 5, "project.out_channels": 3, "stem.out_channels": 3},
    ),
    "concatenation": (
        lambda: Net(concatenated, a=conv(2, 4, 3), b=conv(4, 4, 1), c=conv(12, 4, 1), out=linear(4, 3)),
        {"a": [0], "b": [1, 2]},
        {"a.out_channels": 3, "b.out_channels": 2, "c.in_channels": 8},
    ),
    "split": (
        lambda: Net(split, a=conv(2, 8, 3), b=conv(4, 2, 1), out=linear(2, 3)),
        {"a": [4, 7]},
        {"a.out_channels": 8},  # torch.split's sizes are written in the code
    ),
    "gated linear unit": (
        lambda: Net(gated, a=linear(5, 8), out=linear(4, 3)),
        {"a": [1, 5]},
        {"a.out_features": 6, "out.in_features": 3},
    ),
    "scale of each channel": (
        lambda: scale(Net(scaled, a=conv(2, 6, 3), out=linear(6, 3))),
        {"a": [0, 5]},
        {"a.out_channels": 4, "out.in_features": 4},
    ),
    "several outputs": (
        lambda: Net(outer, a=conv(2, 6, 3), b=linear(6, 3), c=linear(6, 2)),
        {"a": [2]},
        {"a.out_channels": 5, "b.in_features": 5, "c.in_features": 5},
    ),
    "weights that are read directly": (
        lambda: Net(functional, a=conv(2, 6, 3), out=linear(6, 3)),
        {"a": [2, 3]},
        {"a.out_channels": 6, "out.in_features": 6},  # nothing sees what they read
    ),
    "group norm": (
        lambda: Net(grouped_norm, a=conv(2, 8, 3), norm=nn.GroupNorm(4, 8), out=linear(8, 3)),
        {"a": [0, 4, 5], "norm": [4, 5]},
        {"a.out_channels": 6, "norm.num_channels": 6, "norm.num_groups": 3},
    ),
    "layer norm": (
        lambda: nn.Sequential(linear(5, 6), nn.LayerNorm(6), nn.ReLU(), linear(6, 4), nn.Tanh(), linear(4, 3)),
        {"0": [1], "3": [2]},
        {"0.out_features": 6, "3.out_features": 3},
    ),
    "instance norm": (
        lambda: nn.Sequential(
            conv(2, 6, 3), nn.InstanceNorm2d(6), nn.PReLU(6), conv(6, 4, 3), nn.Flatten(), linear(64, 3)
        ),
        {"0": [1]},
        {"0.out_channels": 5, "1.num_features": 5, "2.num_parameters": 5},
    ),
    "groups, equally": (
        lambda: nn.Sequential(conv(2, 8, 3), nn.ReLU(), conv(8, 6, 3, groups=2), nn.Flatten(), linear(96, 3)),
        {"0": [0, 5, 6], "2": [1, 4]},
        {"0.out_channels": 6, "2.in_channels": 6, "2.out_channels": 4, "2.groups": 2, "4.in_features": 64},
    ),
    "a whole group": (
        lambda: nn.Sequential(conv(2, 8, 3), nn.ReLU(), conv(8, 8, 3, groups=4), nn.Flatten(), linear(128, 3)),
        {"0": [2, 3, 5], "2": [2, 3]},
        {"0.out_channels": 6, "2.groups": 3, "2.in_channels": 6, "2.out_channels": 6},
    ),
    "a group that nobody reads": (
        lambda: nn.Sequential(conv(2, 8, 3), nn.ReLU(), conv(8, 8, 3, groups=4), nn.Flatten(), linear(128, 3)),
        {"2": [2, 3]},
        {"0.out_channels": 6, "2.groups": 3, "4.in_features": 96},
    ),
    "depthwise with a multiplier": (
        lambda: nn.Sequential(conv(2, 4, 3), nn.ReLU(), conv(4, 8, 3, groups=4), nn.Flatten(), linear(128, 3)),
        {"0": [1]},
        {"0.out_channels": 3, "2.groups": 3, "2.out_channels": 6},
    ),
    "transposed, in groups": (
        lambda: nn.Sequential(
            conv(2, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.ReLU(), conv(6, 3, 3), nn.Flatten(1)
        ),
        {"0": [1, 2]},
        {"0.out_channels": 2, "2.in_channels": 2, "2.groups": 2},
    ),
    "pixel shuffle": (
        lambda: nn.Sequential(conv(2, 8, 3), nn.PixelShuffle(2), conv(2, 4, 3), nn.Flatten(), linear(400, 3)),
        {"0": [4, 5, 6, 7]},
        {"0.out_channels": 4, "2.in_channels": 1},
    ),
    "three dimensions": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 2)),
            nn.Conv3d(1, 4, (2, 3, 3)),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.Flatten(),
            linear(144, 3),
        ),
        {"1": [3]},
        {"1.out_channels": 3, "2.num_features": 3, "5.in_features": 108},
    ),
    "written into a canvas": (
        lambda: Net(cut_out, a=conv(2, 4, 3), out=linear(4, 3)),
        {"a": [3]},
        {"a.out_channels": 4},  # the canvas' size is written in the code
    ),
    "tied weights": (
        lambda: tie(Net(tied, emb=nn.Embedding(11, 6), mix=linear(18, 6), dec=linear(6, 11, bias=False))),
        {"mix": [2]},
        {"mix.out_features": 6},
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), linear(18, 8), nn.ReLU(), linear(8, 3)),
        {"2": [1, 2, 3]},
        {"2.out_features": 5, "4.in_features": 5},
    ),
}
FLAT = ("gated linear unit", "layer norm")


def example(name, count):
    if name in ("tied weights", "embedding"):
        return torch.randint(11, (count, 3))
    return torch.randn(count, 5) if name in FLAT else torch.randn(count, *IMAGE)


@pytest.mark.parametrize("name", CASES)
def test_the_widths_are_those_counted_by_hand(name, tmp_path):
    make, zeros, sizes = CASES[name]
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():  # so that what follows a constant is not 0 by chance
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for layer, goes in zeros.items():
        zero_channels(model, layer, goes)
    x = example(name, 16)
    compacted = compact(model, x[:2])
    small = compacted.model
    found = {key: getattr(small.get_submodule(key.rpartition(".")[0]), key.rpartition(".")[2]) for key in sizes}
    assert found == sizes, (compacted.removed, compacted.kept_because)
    assert apart(model, small, x) < 1e-5
    assert compacted.removed or compacted.kept_because
    save(tmp_path, compacted)
    torch.manual_seed(1)
    assert apart(small, load(make().eval(), tmp_path), x) == 0
