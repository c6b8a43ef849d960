"""Random stacks of blocks that handle channels in unusual ways, with random zeros: the compact network agrees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_compact_random import random_zeros
from torch import nn
from toy_networks import Net, apart, settle

from prunelab.compaction import compact, load, save

WIDTH = 8


def conv(out=WIDTH, into=WIDTH, size=3, **how):
    return nn.Conv2d(into, out, size, padding=size // 2, **how)


def shuffle(m, x):
    return m.a(x).unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def shuffle_half(m, x):
    left, right = x.chunk(2, 1)
    y = torch.stack([left, F.relu(m.a(right))], 2)
    return y.flatten(1, 2)


def excite(m, x):
    return x * torch.sigmoid(m.b(F.relu(m.a(x.mean((2, 3), keepdim=True)))))


def split_sizes(m, x):
    a, b, c = m.a(x).split([2, 4, 2], 1)
    return torch.cat([c, b.flip(1), a], 1)


def attend(m, x):
    q, k, v = m.a(x).flatten(2).chunk(3, 1)
    return x + ((q.transpose(1, 2) @ k).softmax(-1) @ v.transpose(1, 2)).transpose(1, 2).view_as(x)


def glu(m, x):
    return F.glu(m.a(x), 1)


def layer_norm(m, x):
    return m.norm(m.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def written(m, x):
    y = m.a(x)
    y[:, ::2] = F.relu(m.b(x)[:, 1::2])
    return y


def up_and_down(m, x):
    return F.pixel_unshuffle(m.b(F.relu(F.pixel_shuffle(m.a(x), 2))), 2)


def scaled(m, x):
    return m.a(x) * m.scale.weight.view(1, -1, 1, 1)


BLOCKS = {
    "conv": lambda: conv(),
    "groups of 4": lambda: conv(groups=2),
    "groups of 2": lambda: conv(groups=4),
    "depthwise": lambda: conv(groups=WIDTH),
    "multiplied": lambda: nn.Sequential(conv(2 * WIDTH, groups=WIDTH), nn.ReLU(), conv(into=2 * WIDTH, size=1)),
    "bottleneck": lambda: Net(
        lambda m, x: F.relu(x + m.part(x)),
        part=nn.Sequential(conv(4, size=1), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4, groups=2), conv(into=4, size=1)),
    ),
    "dense": lambda: Net(lambda m, x: m.b(torch.cat([x, F.relu(m.a(x))], 1)), a=conv(4), b=conv(into=WIDTH + 4)),
    "transposed": lambda: nn.ConvTranspose2d(WIDTH, WIDTH, 3, padding=1, groups=2),
    "batch norm": lambda: nn.BatchNorm2d(WIDTH),
    "group norm": lambda: nn.GroupNorm(4, WIDTH),
    "instance norm": lambda: nn.InstanceNorm2d(WIDTH),
    "prelu": lambda: nn.PReLU(WIDTH),
    "shuffle": lambda: Net(shuffle, a=conv()),
    "shuffle half": lambda: Net(shuffle_half, a=conv(WIDTH // 2, WIDTH // 2)),
    "excite": lambda: Net(excite, a=conv(3, size=1), b=conv(into=3, size=1)),
    "split": lambda: Net(split_sizes, a=conv()),
    "attend": lambda: Net(attend, a=conv(3 * WIDTH, size=1)),
    "glu": lambda: Net(glu, a=conv(2 * WIDTH)),
    "layer norm": lambda: Net(layer_norm, a=conv(), norm=nn.LayerNorm(WIDTH)),
    "written": lambda: Net(written, a=conv(), b=conv()),
    "up and down": lambda: Net(up_and_down, a=conv(), b=conv(2, 2)),
    "scaled": lambda: Net(scaled, a=conv(), scale=nn.BatchNorm1d(WIDTH)),
    "pool": lambda: nn.AvgPool2d(3, 1, 1),
}


def network(names, shared):
    blocks = [BLOCKS[name]() for name in names]
    if shared:
        blocks.append(blocks[0])
    parts = [part for block in blocks for part in (block, nn.ReLU())]
    return nn.Sequential(
        conv(into=2), nn.ReLU(), *parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * WIDTH, 3)
    )


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    names=st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=4),
    shared=st.booleans(),
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.3, 0.8, 1.6]),
    round_to=st.sampled_from([1, 1, 2, 4]),
)
def test_random_blocks_agree(names, shared, seed, share, round_to, tmp_path_factory):
    torch.manual_seed(seed)
    model = settle(network(names, shared), (2, 6, 6), seed)
    random_zeros(model, seed, share)
    x = torch.randn(12, 2, 6, 6)
    compacted = compact(model, x[:1], round_to)
    size = float(model(x).detach().abs().max())
    assert apart(model, compacted.model, x) <= 1e-4 * size + 1e-12
    assert compacted.removed or compacted.kept_because
    folder = tmp_path_factory.mktemp("compact")
    save(folder, compacted)
    assert apart(compacted.model, load(network(names, shared).eval(), folder), x) == 0
