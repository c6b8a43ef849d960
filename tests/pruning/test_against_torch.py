"""The same weights go as with torch.nn.utils.prune, where no two scores are equal."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from prunelab.models.lenet import LeNet
from prunelab.pruning.granularity.channel import Channel
from prunelab.pruning.pruner import Pruner

AMOUNTS = [0.2, 0.5, 0.2]  # in three rounds


def networks(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mine = LeNet()
    theirs = copy.deepcopy(mine)
    pairs = [(m, "weight") for m in theirs.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    return mine, pairs


def assert_same(pruner, pairs):
    for item, (module, _) in zip(pruner.items, pairs, strict=True):
        assert torch.equal(item.mask, module.weight_mask), item.name
        assert torch.equal(item.parameter, module.weight), item.name


@pytest.mark.parametrize("seed", range(3))
def test_local_weights_are_l1_unstructured(seed):
    mine, pairs = networks(seed)
    pruner = Pruner(mine, allocation="local")
    for amount in AMOUNTS:
        pruner.prune(amount)
        for module, key in pairs:
            prune.l1_unstructured(module, key, amount)
        assert_same(pruner, pairs)


@pytest.mark.parametrize("seed", range(3))
def test_global_weights_are_global_unstructured(seed):
    mine, pairs = networks(seed)
    pruner = Pruner(mine)
    for amount in AMOUNTS:
        pruner.prune(amount)
        prune.global_unstructured(pairs, prune.L1Unstructured, amount=amount)
        assert_same(pruner, pairs)


@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(3))
def test_on_a_gpu_too(seed):
    mine, pairs = networks(seed)
    mine.cuda()
    for module, _ in pairs:
        module.cuda()
    pruner = Pruner(mine)
    for amount in AMOUNTS:
        pruner.prune(amount)
        prune.global_unstructured(pairs, prune.L1Unstructured, amount=amount)
        assert_same(pruner, pairs)


@pytest.mark.parametrize("n", [1, 2, float("inf")])
@pytest.mark.parametrize("dim", [0, 1])
def test_local_channels_are_ln_structured(n, dim):
    mine, pairs = networks()
    pairs = pairs if dim == 0 else pairs[1:]  # the first convolution has one input
    exclude = [] if dim == 0 else ["conv1.*"]
    pruner = Pruner(mine, granularity=Channel(n, dim), allocation="local", output_layer=True, exclude=exclude)
    for amount in AMOUNTS:
        pruner.prune(amount)
        for module, key in pairs:
            prune.ln_structured(module, key, amount, n, dim)
        assert_same(pruner, pairs)


def test_scores_of_ones_own_are_importance_scores():
    mine, pairs = networks()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        scores = [torch.rand_like(module.weight) for module, _ in pairs]
    pruner = Pruner(mine, lambda evidence: scores)
    pruner.prune(0.7)
    importance = dict(zip(pairs, scores, strict=True))
    prune.global_unstructured(pairs, prune.L1Unstructured, importance_scores=importance, amount=0.7)
    assert_same(pruner, pairs)
