"""Attention heads that go: the oracle is torch's own attention with the zeros."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy_networks import apart

from prunelab.compaction import compact
from prunelab.compaction.attention_heads import Heads
from prunelab.models.vit import ViT

SHAPE = (1, 8, 8)


def vit(heads=4):
    torch.manual_seed(0)
    return ViT(patch=4, dim=16, depth=2, heads=heads, shape=SHAPE, classes=3).eval()


@torch.no_grad()
def zero_head(attention, head, what):
    size = attention.head_dim
    part = slice(head * size, (head + 1) * size)
    if what == "output":
        attention.out_proj.weight[:, part] = 0
    else:
        attention.in_proj_weight[2 * attention.embed_dim :][part] = 0


@pytest.mark.parametrize("what", ["output", "values"])
@pytest.mark.parametrize("goes", [[0], [1, 3], [0, 1, 2, 3]])
def test_heads_that_do_nothing_go(what, goes):
    model = vit()
    attention = model.blocks[1].attention
    with torch.no_grad():
        attention.in_proj_bias.normal_()  # a head without values still gives its bias
        attention.out_proj.bias.normal_()
    for head in goes:
        zero_head(attention, head, what)
    compacted = compact(model, torch.randn(1, *SHAPE))
    small = compacted.model.blocks[1].attention
    assert isinstance(small, Heads)
    assert small.heads == 4 - len(goes)
    assert f"blocks.1.attention: {len(goes)} of 4 heads" in compacted.removed
    assert isinstance(compacted.model.blocks[0].attention, nn.MultiheadAttention)
    assert apart(model, compacted.model, torch.randn(8, *SHAPE)) < 1e-5


def test_a_head_of_which_one_row_lives_stays():
    model = vit()
    zero_head(model.blocks[0].attention, 2, "values")
    with torch.no_grad():
        model.blocks[0].attention.in_proj_weight[32 + 2 * 4 + 1, 5] = 0.3
    compacted = compact(model, torch.randn(1, *SHAPE))
    assert compacted.removed == []


def test_heads_and_hidden_neurons_go():
    model = vit()
    for block in model.blocks:
        with torch.no_grad():
            block.attention.in_proj_weight[32:36] = 0  # the values of the first head
            block.mlp[0].weight[:7] = 0
            block.mlp[0].weight[7:9, 1:] = 0
    x = torch.randn(8, *SHAPE)
    with torch.no_grad():
        before = model(x)
        compacted = compact(model, x[:1])
        after = compacted.model(x)
    assert {"blocks.0.attention: 1 of 4 heads", "blocks.1.mlp.0: 7 of 32 neurons"} <= set(compacted.removed)
    assert float((before - after).abs().max()) < 1e-5


class Reader(nn.Module):
    """Reads attention in other ways than the vision transformer does."""

    def __init__(self, way):
        super().__init__()
        self.attention, self.way = nn.MultiheadAttention(8, 2, batch_first=way != "sequence first"), way
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        if self.way == "weights":
            y, weights = self.attention(x, x, x)
            return self.head(y.mean(1)) + weights.mean((1, 2))[:, None]
        if self.way == "mask":
            mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            return self.head(self.attention(x, x, x, attn_mask=mask, need_weights=False)[0].mean(1))
        if self.way == "cross":
            return self.head(self.attention(x, x.flip(1), x.flip(1), need_weights=False)[0].mean(1))
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


@pytest.mark.parametrize(
    ("way", "heads"), [("weights", 2), ("mask", 2), ("cross", 2), ("plain", 1), ("sequence first", 1)]
)
def test_heads_go_or_stay_with_a_reason(way, heads):
    torch.manual_seed(1)
    model = Reader(way).eval()
    zero_head(model.attention, 0, "values")
    compacted = compact(model, torch.randn(1, 5, 8))
    small = compacted.model.attention
    assert (small.heads if isinstance(small, Heads) else small.num_heads) == heads
    assert (heads == 1) or any(sentence.startswith("attention: its heads stay") for sentence in compacted.kept_because)
    assert apart(model, compacted.model, torch.randn(6, 5, 8)) < 1e-6
