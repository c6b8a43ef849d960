"""Small networks drawn by a number: residual, shared, tied, grouped, recurrent, attention, normalised, multi-branch."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from prunelab.data.dataset import Dataset, Split

SHAPE, CLASSES = (2, 8, 8), 4


def network(number: int) -> nn.Module:
    """Return the network of a number: its structure depends on the number alone, its weights on torch's generator."""
    choose = random.Random(number)
    return choose.choice((convolutional, convolutional, linear, recurrent, attention))(choose)


def data(examples: int = 120) -> Dataset:
    """Return examples that are their class's pattern plus noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(CLASSES, *SHAPE, generator=generator)

    def split(count: int) -> Split:
        labels = torch.arange(count) % CLASSES
        return Split(patterns[labels] + torch.randn(count, *SHAPE, generator=generator), labels)

    return Dataset(split(examples), split(examples // 3), split(examples // 2))


def convolutional(choose: random.Random) -> nn.Module:
    """Return two to four convolutional blocks and a head."""
    width = choose.choice((4, 6, 8))
    kinds = (
        Plain,
        Residual,
        Bottleneck,
        Grouped,
        Separable,
        Branches,
        SqueezeExcite,
        Twice,
        Transposed,
        Shuffled,
        Gated,
    )
    stem = nn.Sequential(nn.Conv2d(SHAPE[0], width, 3, padding=1), norm2d(choose, width), nn.ReLU())
    blocks = [choose.choice(kinds)(choose, width) for _ in range(choose.randint(1, 3))]
    heads = (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)),
        lambda: nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(width * 16, CLASSES)),
        lambda: nn.Sequential(nn.Conv2d(width, CLASSES, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
    )
    return nn.Sequential(stem, *blocks, choose.choice(heads)())


def norm2d(choose: random.Random, width: int) -> nn.Module:
    """Return a normalisation of images, or none."""
    kinds = (nn.BatchNorm2d, nn.BatchNorm2d, lambda n: nn.GroupNorm(2, n), lambda n: nn.InstanceNorm2d(n, affine=True))
    return choose.choice((*kinds, lambda n: nn.Identity()))(width)


class Plain(nn.Sequential):
    """A convolution, perhaps weight-normalised, then a norm and an activation with or without weights."""

    def __init__(self, choose: random.Random, width: int) -> None:
        conv: nn.Module = nn.Conv2d(width, width, 3, padding=1, bias=choose.random() < 0.5)
        if choose.random() < 0.2:
            conv = parametrizations.weight_norm(conv)
        act = choose.choice((nn.ReLU(), nn.PReLU(width), nn.GELU(), nn.Hardswish()))
        super().__init__(conv, norm2d(choose, width), act, nn.Dropout(choose.choice((0.0, 0.1))))


class Residual(nn.Module):
    """Two convolutions and a sum."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__()
        self.one, self.two = Plain(choose, width), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.one(x))


class Bottleneck(nn.Module):
    """An expansion, a depthwise convolution, a projection, and a sum."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__()
        inner = width * 2
        self.up, self.norm = nn.Conv2d(width, inner, 1), norm2d(choose, inner)
        self.depth = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.down = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.relu6(self.depth(F.relu6(self.norm(self.up(x))))))


class Grouped(nn.Sequential):
    """A convolution in two groups."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__(nn.Conv2d(width, width, 3, padding=1, groups=2), norm2d(choose, width), nn.ReLU())


class Separable(nn.Sequential):
    """A depthwise and a pointwise convolution."""

    def __init__(self, choose: random.Random, width: int) -> None:
        depth, point = nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, width, 1)
        super().__init__(depth, norm2d(choose, width), nn.ReLU(), point)


class Branches(nn.Module):
    """Three branches of unequal width, concatenated and mixed."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, 3, 1), nn.Conv2d(width, 5, 3, padding=1)
        self.mix = nn.Conv2d(8 + width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.mix(torch.cat([self.a(x), x, self.b(F.avg_pool2d(x, 3, 1, 1))], 1)))


class SqueezeExcite(nn.Module):
    """A gate for each channel, computed from the channels' means."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(width, width, 1), nn.Linear(width, 3), nn.Linear(3, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y * torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3))))))[:, :, None, None]


class Twice(nn.Module):
    """One convolution that runs twice."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(torch.relu(self.conv(x))))


class Transposed(nn.Module):
    """Down by a strided convolution, up by a transposed one."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width + 2, 2, 2), nn.ConvTranspose2d(width + 2, width, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.up(torch.relu(self.down(x))))


class Shuffled(nn.Module):
    """Half of the channels go through a convolution, then the channels of both halves are interleaved."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width // 2, width // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        y = torch.cat([left, torch.relu(self.conv(right))], 1)
        return y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


class Gated(nn.Module):
    """Two convolutions with one weight, of which one gates the other."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.gate.weight = self.value.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.value(x) * torch.sigmoid(self.gate(x))


def linear(choose: random.Random) -> nn.Module:
    """Return an MLP whose layers may be residual, tied, repeated, normalised or gated."""
    width = choose.choice((8, 12, 16))
    blocks = [Hidden(choose, width) for _ in range(choose.randint(1, 3))]
    if choose.random() < 0.3:
        blocks.append(blocks[0])  # one block under two names
    if choose.random() < 0.3 and len(blocks) > 1:
        blocks[-1].layer.weight = blocks[0].layer.weight
    head = nn.Linear(width, CLASSES, bias=choose.random() < 0.5)
    return nn.Sequential(nn.Flatten(), nn.Linear(128, width), nn.ReLU(), *blocks, head)


class Hidden(nn.Module):
    """A linear layer with a norm, and a sum or a gate."""

    def __init__(self, choose: random.Random, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)
        self.norm = choose.choice((nn.LayerNorm, nn.BatchNorm1d, nn.Identity))(width)
        self.kind = choose.choice(("plain", "residual", "gated"))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.layer(x)))
        return {"plain": y, "residual": x + y, "gated": x * torch.sigmoid(y)}[self.kind]


def recurrent(choose: random.Random) -> nn.Module:
    """Return an LSTM, GRU or RNN over the rows of the image, of one or two layers, in one or two directions."""
    return Recurrent(choose)


class Recurrent(nn.Module):
    """Eight steps of sixteen values; the last step or the mean goes to the head."""

    def __init__(self, choose: random.Random) -> None:
        super().__init__()
        kind, both = choose.choice((nn.LSTM, nn.GRU, nn.RNN)), choose.random() < 0.4
        self.rnn = kind(16, 6, choose.choice((1, 2)), batch_first=True, bidirectional=both)
        self.head, self.last = nn.Linear(12 if both else 6, CLASSES), choose.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.rnn(x.transpose(1, 2).flatten(2))
        return self.head(steps[:, -1] if self.last else steps.mean(1))


def attention(choose: random.Random) -> nn.Module:
    """Return a transformer encoder over the rows of the image, or a single attention layer."""
    return Attention(choose)


class Attention(nn.Module):
    """Eight tokens of sixteen values."""

    def __init__(self, choose: random.Random) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(16, 8), nn.Parameter(torch.randn(8, 8) * 0.1)
        self.whole = choose.random() < 0.5
        if self.whole:
            self.mix: nn.Module = nn.TransformerEncoderLayer(
                8, 2, 16, 0.0, batch_first=True, norm_first=choose.random() < 0.5
            )
        else:
            self.mix = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.transpose(1, 2).flatten(2)) + self.position
        mixed = self.mix(tokens) if self.whole else tokens + self.mix(tokens, tokens, tokens)[0]
        return self.head(mixed.mean(1))
