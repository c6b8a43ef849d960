"""A small vision transformer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ViT(nn.Module):
    """A vision transformer: patches as tokens, a class token, learned positions, pre-norm blocks, a Linear head.

    Args:
        patch: side of a square patch in pixels, ≥ 1; must divide the image's height and width.
        dim: width of a token; a multiple of `heads`.
        depth: number of blocks, ≥ 1.
        heads: attention heads per block, ≥ 1.
        mlp_ratio: width of a block's hidden layer ÷ `dim`, > 0.
        shape: shape of one example, [channels, height, width].
        classes: number of classes, ≥ 1.

    Raises:
        ValueError: if a value is outside its range.

    Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words", arXiv 2010.11929, section 3.1.
    """

    def __init__(
        self,
        patch: int = 4,
        dim: int = 64,
        depth: int = 4,
        heads: int = 4,
        mlp_ratio: float = 2.0,
        *,
        shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        for key, value in (("patch", patch), ("dim", dim), ("depth", depth), ("heads", heads)):
            if value < 1:
                raise ValueError(f"{key}={value}: must be a whole number ≥ 1")
        if height % patch or width % patch:
            raise ValueError(f"patch={patch}: must divide the image's {height} × {width} pixels")
        if dim % heads:
            raise ValueError(f"heads={heads}: must divide dim={dim}")
        if int(dim * mlp_ratio) < 1:
            raise ValueError(f"mlp_ratio={mlp_ratio}: must be at least 1/{dim}")
        self.embed = nn.Conv2d(channels, dim, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.empty(1, 1 + (height // patch) * (width // patch), dim).normal_(std=0.02))
        self.blocks = nn.Sequential(*(Block(dim, heads, int(dim * mlp_ratio)) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [n, classes] for images [n, *shape]."""
        x = self.embed(x).flatten(2).transpose(1, 2)  # [n, tokens, dim]
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x)[:, 0]))


class Block(nn.Module):
    """A pre-norm block: x + attention(norm(x)), then x + mlp(norm(x)); it trains without a warm-up.

    Source: Xiong et al. 2020, "On layer normalization in the transformer architecture", arXiv 2002.04745.
    """

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens [n, tokens, dim] for the same shape."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))
