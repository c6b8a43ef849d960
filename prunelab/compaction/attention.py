"""Attention with fewer heads than its width would have, and cutting heads out of nn.MultiheadAttention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Heads(nn.Module):
    """Multi-head self-attention whose heads need not fill the width, which nn.MultiheadAttention cannot have.

    Args:
        width: of a token.
        heads: at least 0; without any it gives its output's bias.
        size: of a head.
        batch_first: whether tokens are [n, tokens, width], or [tokens, n, width].
        bias: whether the projections have biases.

    Source: Vaswani et al. 2017, "Attention is all you need", arXiv 1706.03762, section 3.2.2; heads cut out as in
    Michel et al. 2019, "Are sixteen heads really better than one?", arXiv 1905.10650.
    """

    def __init__(self, width: int, heads: int, size: int, batch_first: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.width, self.heads, self.size, self.batch_first, self.biased = width, heads, size, batch_first, bias
        self.in_proj = nn.Linear(width, 3 * heads * size, bias=bias) if heads else None
        self.out_proj = nn.Linear(heads * size, width) if heads else None
        self.constant = nn.Parameter(torch.zeros(width)) if not heads else None

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = True, **masks: Any
    ) -> tuple[Tensor, None]:
        """Tokens → the same shape, and no attention weights, whether or not they are asked for.

        Raises:
            NotImplementedError: for keys or values other than the queries, and for masks.
        """
        if key is not query or value is not query or any(given is not None for given in _asked(masks)):
            raise NotImplementedError("Heads attends to the same tokens, without masks")
        if self.in_proj is None or self.out_proj is None:
            assert self.constant is not None
            return self.constant.expand(*query.shape[:-1], self.width).clone(), None
        x = query if self.batch_first else query.transpose(0, 1)  # [n, tokens, width]
        n, tokens, _ = x.shape
        parts = self.in_proj(x).view(n, tokens, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)  # each [n, heads, tokens, size]
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # [n, tokens, heads · size]
        y = self.out_proj(seen)
        return (y if self.batch_first else y.transpose(0, 1)), None

    def settings(self) -> dict[str, Any]:
        """What to build it from; JSON."""
        return {
            "width": self.width,
            "heads": self.heads,
            "size": self.size,
            "batch_first": self.batch_first,
            "bias": self.biased,
        }

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.width}, heads={self.heads}, size={self.size}"


def _asked(masks: dict[str, Any]) -> list[Any]:
    return [masks.get("attn_mask"), masks.get("key_padding_mask"), masks.get("is_causal") or None]


def fewer_heads(module: nn.MultiheadAttention) -> Heads | str | None:
    """The same attention without the heads that do nothing; None if there is none, or why it cannot be cut.

    A head can go if the output's weights ignore it, or if its values are a constant: attention's weights sum to 1, so
    it is that constant that comes out, and it goes into the output's bias.
    """
    if module.in_proj_weight is None or module.bias_k is not None or module.add_zero_attn:
        return "its queries, keys and values have widths or rows of their own"
    size = module.head_dim
    values = module.in_proj_weight[2 * module.embed_dim :].view(module.num_heads, -1)
    ignored = ~module.out_proj.weight.view(-1, module.num_heads, size).transpose(0, 1).flatten(1).any(1)
    lives = [head for head in range(module.num_heads) if bool(values[head].any()) and not bool(ignored[head])]
    if len(lives) == module.num_heads:
        return None
    with torch.no_grad():
        return _cut(module, lives)


def _cut(module: nn.MultiheadAttention, lives: list[int]) -> Heads:
    width, size = module.embed_dim, module.head_dim
    biased = module.in_proj_bias is not None
    heads = Heads(width, len(lives), size, module.batch_first, biased).to(module.in_proj_weight)
    stays = torch.tensor([head * size + i for head in lives for i in range(size)], dtype=torch.long)
    goes = torch.tensor([i for i in range(width) if i // size not in lives], dtype=torch.long)
    bias = module.out_proj.weight.new_zeros(width)
    if module.out_proj.bias is not None:
        bias = bias + module.out_proj.bias
    if biased:
        bias = bias + module.out_proj.weight[:, goes] @ module.in_proj_bias[2 * width :][goes]
    if heads.in_proj is None or heads.out_proj is None:
        assert heads.constant is not None
        heads.constant.copy_(bias)
        return heads
    every = torch.cat([stays, width + stays, 2 * width + stays])
    heads.in_proj.weight.copy_(module.in_proj_weight[every])
    if biased:
        heads.in_proj.bias.copy_(module.in_proj_bias[every])
    heads.out_proj.weight.copy_(module.out_proj.weight[:, stays])
    heads.out_proj.bias.copy_(bias)
    return heads
