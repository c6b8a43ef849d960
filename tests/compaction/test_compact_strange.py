"""Networks out of the ordinary: whatever the trace makes of them, the compact network agrees, or nothing goes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_compact_random import random_zeros
from torch import nn
from toy_networks import Net, apart, settle

from prunelab.compaction import compact


def shared(m, x):
    return m.out(F.relu(m.a(F.relu(m.a(F.relu(m.into(x)))))))


def squeeze(m, x):
    x = F.relu(m.a(x))
    return m.out((x * torch.sigmoid(m.gate(x.mean((2, 3))))[:, :, None, None]).mean((2, 3)))


def chunks(m, x):
    left, right = F.relu(m.a(x)).chunk(2, 1)
    return m.out((m.b(left) + right).mean((2, 3)))


def heads(m, x):
    return m.out(F.relu(m.a(x)).view(len(x), 2, 4).transpose(1, 2).flatten(1))


def glu(m, x):
    return m.out(F.glu(m.a(x), 1).flatten(1))


def average(m, x):
    return m.out(F.avg_pool2d(torch.sigmoid(m.a(x)), 3, 2, 1).flatten(1))


def several(m, x):
    x = F.relu(m.a(x))
    return m.out(F.interpolate(m.b(x), scale_factor=2).mean((2, 3)) + m.c(x).mean((2, 3)))


def weights(m, x):
    x = F.relu(m.a(x))
    return F.linear(x.mean((2, 3)), m.out.weight, m.out.bias)


def table(m, x):
    return F.relu(m.a(x)).mean((2, 3)) @ m.tables["out"]


def unfolded(m, x):
    return m.out(F.unfold(F.relu(m.a(x)), 2).mean(2))


def maxout(m, x):
    return m.out(m.a(x).unflatten(1, (2, 3)).amax(1).mean((2, 3)))


def product(m, x):
    x = F.relu(m.a(x))
    return m.out(torch.einsum("bchw,bdhw->bcd", x, x).flatten(1))


conv, linear = nn.Conv2d, nn.Linear
NETWORKS = {
    "shared": lambda: Net(shared, into=linear(5, 6), a=linear(6, 6), out=linear(6, 3)),
    "squeeze and excitation": lambda: Net(squeeze, a=conv(2, 8, 3), gate=linear(8, 8), out=linear(8, 3)),
    "chunks": lambda: Net(chunks, a=conv(2, 8, 3), b=conv(4, 4, 1), out=linear(4, 3)),
    "heads": lambda: Net(heads, a=linear(5, 8), out=linear(8, 3)),
    "glu": lambda: Net(glu, a=conv(2, 8, 3), out=linear(4 * 36, 3)),
    "average pool with padding": lambda: Net(average, a=conv(2, 6, 3), out=linear(6 * 9, 3)),
    "several readers": lambda: Net(
        several, a=conv(2, 6, 3), b=conv(6, 5, 1), c=conv(6, 5, 3, padding=1), out=linear(5, 3)
    ),
    "weights read directly": lambda: Net(weights, a=conv(2, 6, 3), out=linear(6, 3)),
    "products of channels": lambda: Net(product, a=conv(2, 4, 3), out=linear(16, 3)),
    "product with a parameter": lambda: Net(
        table, a=conv(2, 6, 3), tables=nn.ParameterDict({"out": torch.randn(6, 3)})
    ),
    "unfolded": lambda: Net(unfolded, a=conv(2, 6, 3), out=linear(24, 3)),
    "maxout": lambda: Net(maxout, a=conv(2, 6, 3), out=linear(3, 3)),
    "grouped": lambda: nn.Sequential(
        conv(2, 8, 3), nn.ReLU(), conv(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), linear(8 * 16, 3)
    ),
    "two for each channel": lambda: nn.Sequential(
        conv(2, 4, 3), nn.ReLU(), conv(4, 8, 3, groups=4), nn.ReLU(), nn.Flatten(), linear(8 * 16, 3)
    ),
    "two into one": lambda: nn.Sequential(
        conv(2, 8, 3), nn.ReLU(), conv(8, 4, 3, groups=4), nn.ReLU(), nn.Flatten(), linear(4 * 16, 3)
    ),
    "transposed": lambda: nn.Sequential(
        conv(2, 6, 3, 2), nn.Sigmoid(), nn.ConvTranspose2d(6, 5, 3, 2), nn.ReLU(), nn.Flatten(), linear(5 * 49, 3)
    ),
    "instance norm": lambda: nn.Sequential(
        conv(2, 6, 3), nn.InstanceNorm2d(6, affine=True), nn.ReLU(), conv(6, 4, 3), nn.Flatten(), linear(64, 3)
    ),
    "in place": lambda: nn.Sequential(
        conv(2, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        conv(6, 4, 3),
        nn.ReLU(True),
        nn.Flatten(),
        linear(64, 3),
    ),
    "pixels": lambda: nn.Sequential(conv(2, 8, 3), nn.PixelShuffle(2), conv(2, 4, 3), nn.Flatten(), linear(400, 3)),
    "softmax": lambda: nn.Sequential(conv(2, 6, 3), nn.Softmax2d(), conv(6, 4, 3), nn.Flatten(), linear(64, 3)),
    "local response": lambda: nn.Sequential(
        conv(2, 6, 3), nn.LocalResponseNorm(3), conv(6, 4, 3), nn.Flatten(), linear(64, 3)
    ),
    "dropout": lambda: nn.Sequential(conv(2, 6, 3), nn.Dropout2d(), conv(6, 4, 3), nn.Flatten(), linear(64, 3)),
    "same": lambda: nn.Sequential(
        conv(2, 6, 3, padding="same"), nn.Tanh(), conv(6, 4, 3, padding="same"), nn.Flatten(), linear(256, 3)
    ),
    "in one dimension": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(2, 6, 5), nn.BatchNorm1d(6), nn.ELU(), nn.Conv1d(6, 4, 3), nn.Flatten(), linear(232, 3)
    ),
}


@pytest.mark.parametrize("share", [0.5, 1.5])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_it_agrees_or_stays(name, seed, share):
    torch.manual_seed(seed)
    shape = (5,) if name in ("shared", "heads") else (2, 8, 8)
    model = settle(NETWORKS[name](), shape, seed)
    random_zeros(model, seed, share)
    compacted = compact(model, torch.randn(1, *shape))
    x = torch.randn(16, *shape)
    assert apart(model, compacted.model, x) < 1e-5
    assert apart(model, compacted.model, 30 * x) < 1e-3
    assert compacted.removed or compacted.kept_because


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("grouped", "0: 2 channels without weights stay: the groups of 2 must stay equal"),
        ("two for each channel", None),
        ("two into one", "0: 2 channels without weights stay: the groups of 2 must stay equal"),
        (
            "pixels",
            "0: 2 channels without weights stay: they can only go together with others, which have weights",
        ),
        ("instance norm", None),
        ("in place", None),
        (
            "product with a parameter",
            "a: 2 channels without weights stay: the network (Net) multiplies them by another tensor",
        ),
        (
            "products of channels",
            "a: 2 channels without weights stay: the network (Net) multiplies them with one another",
        ),
        ("unfolded", "a: 2 channels without weights stay: the network (Net) combines them (`unfold`)"),
        ("maxout", "a: 2 channels without weights stay: the network (Net) combines them (`amax`)"),
    ],
)
def test_it_says_why_channels_stay(name, said):
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    with torch.no_grad():
        first = model.a if isinstance(model, Net) else model[0]
        first.weight[1:3], first.bias[1:3] = 0, 0
    compacted = compact(model, torch.randn(1, 2, 8, 8))
    assert compacted.kept_because == ([] if said is None else [said])
    assert bool(compacted.removed) == (said is None)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_network_that_converts_to_a_type_of_its_own_is_compared_in_that_type(kind):
    """It does not run in float64."""

    def forward(m, x):
        return m.out(F.relu(m.a(x.to(kind)))).float()

    net = Net(forward, a=nn.Linear(6, 8), out=nn.Linear(8, 3)).to(kind)
    with torch.no_grad():
        net.a.weight[:3], net.a.bias[:3] = 0, 0
    small = compact(net, torch.randn(5, 6))
    assert small.model.a.out_features == 5
    assert small.proof.agree
    assert small.proof.in_float64 is None
    assert small.as_json()["largest_difference_float64"] is None
