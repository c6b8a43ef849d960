"""Torchvision's classification networks, half of each layer's channels pruned: smaller, and the same outputs."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from toy_networks import apart, parameters, settle

from prunelab import Pruner
from prunelab.compaction import compact

QUICK = ("mobilenet_v3_small", "squeezenet1_1")
MOST = 60_000_000  # parameters; the larger members of a family have the same layers
SIDES = {"inception_v3": 75, "alexnet": 64, "maxvit_t": 224, "swin": 64, "vit": 64, "vit_h_14": 56}


def network(name):
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    side = SIDES.get(name, SIDES.get(name.split("_")[0], 32))
    if name.startswith("vit"):
        more["image_size"] = side
    return torchvision.models.get_model(name, weights=None, num_classes=5, **more).eval(), (3, side, side)


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow, pytest.mark.timeout(900)])
        for name in torchvision.models.list_models(module=torchvision.models)
    ],
)
def test_it_is_smaller_and_computes_the_same(name):
    with torch.device("meta"):
        if parameters(network(name)[0]) > MOST:
            pytest.skip(f"more than {MOST:,} parameters")
    torch.manual_seed(0)
    model, shape = network(name)
    x = torch.randn(2, *shape)
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        settle(model, shape)
    pruner = Pruner(model, granularity="channel", allocation="local")
    pruner.prune(0.5)
    pruner.detach()
    compacted = compact(model, x[:1])
    with torch.no_grad():
        size = float(model(x).abs().max())
    assert apart(model, compacted.model, x) < 1e-4 * size
    assert parameters(compacted.model) < parameters(model)
    assert any(isinstance(module, nn.Linear) for module in compacted.model.modules()) or name.startswith("squeezenet")
    assert not any("operand" in sentence or "Error" in sentence for sentence in compacted.kept_because)
