"""Attention whose heads need not fill its width, and cutting heads that do nothing out of nn.MultiheadAttention."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Heads(nn.Module):
    """Multi-head self-attention with any number of heads of any size; nn.MultiheadAttention needs heads · size = width.

    Args:
        width: of a token.
        heads: at least 0; without heads, the output is a constant vector.
        size: of a head.
        batch_first: whether tokens are [n, tokens, width]; else [tokens, n, width].
        bias: whether the projections have biases.

    Source: Vaswani et al. 2017, "Attention is all you need", arXiv 1706.03762, section 3.2.2; heads are removed as in
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
        """Return tokens of the same shape, and None in place of the attention weights.

        Raises:
            NotImplementedError: if keys or values are not the queries themselves, or there is an attention mask.
        """
        asked = (masks.get("attn_mask"), masks.get("key_padding_mask"), masks.get("is_causal") or None)
        if key is not query or value is not query or any(mask is not None for mask in asked):
            raise NotImplementedError("Heads: query, key and value must be the same tensor, without masks")
        if self.in_proj is None or self.out_proj is None:
            assert self.constant is not None
            return self.constant.expand(*query.shape[:-1], self.width).clone(), None
        x = query if self.batch_first else query.transpose(0, 1)  # [n, tokens, width]
        n, tokens, _ = x.shape
        parts = self.in_proj(x).view(n, tokens, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)  # each [n, heads, tokens, size]
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # [n, tokens, heads · size]
        y = self.out_proj(mixed)
        return (y if self.batch_first else y.transpose(0, 1)), None

    def settings(self) -> dict[str, Any]:
        """Return the arguments to build it from; plain data for JSON."""
        return {
            "width": self.width,
            "heads": self.heads,
            "size": self.size,
            "batch_first": self.batch_first,
            "bias": self.biased,
        }

    def extra_repr(self) -> str:
        """Return the sizes, for `print(model)`."""
        return f"{self.width}, heads={self.heads}, size={self.size}"


def fewer_heads(module: nn.MultiheadAttention) -> Heads | str | None:
    """Return the same attention without the heads that do nothing; None if all do something; or why none can be cut.

    A head does nothing if the output projection has only zeros for it, or if its value projection is zero: then its
    values are a constant (the bias), attention weights sum to 1, so that its output is that constant, which is added
    to the bias of the output.
    """
    if module.in_proj_weight is None or module.bias_k is not None or module.add_zero_attn:
        return "queries, keys and values have different widths, or rows are added to them"
    size = module.head_dim
    values = module.in_proj_weight[2 * module.embed_dim :].view(module.num_heads, -1)
    ignored = ~module.out_proj.weight.view(-1, module.num_heads, size).transpose(0, 1).flatten(1).any(1)
    alive = [head for head in range(module.num_heads) if bool(values[head].any()) and not bool(ignored[head])]
    if len(alive) == module.num_heads:
        return None
    with torch.no_grad():
        return _cut(module, alive)


def _cut(module: nn.MultiheadAttention, alive: list[int]) -> Heads:
    width, size = module.embed_dim, module.head_dim
    biased = module.in_proj_bias is not None
    heads = Heads(width, len(alive), size, module.batch_first, biased).to(module.in_proj_weight)
    stays = torch.tensor([head * size + i for head in alive for i in range(size)], dtype=torch.long)
    goes = torch.tensor([i for i in range(width) if i // size not in alive], dtype=torch.long)
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
