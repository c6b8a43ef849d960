"""A fully connected network of any widths."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn


class MLP(nn.Sequential):
    """Linear layers of the widths `hidden`, each with a ReLU, and a Linear layer to `classes`.

    Args:
        hidden: widths of the hidden layers, each ≥ 1.
        shape: shape of one example, [channels, height, width].
        classes: number of classes, ≥ 1.

    Raises:
        ValueError: if a width is outside its range.

    Source: the network 784-40-20-10 of Singh & Alistarh 2020, arXiv 2004.14340.
    """

    def __init__(
        self, hidden: Sequence[int] = (40, 20), *, shape: Sequence[int] = (1, 28, 28), classes: int = 10
    ) -> None:
        if any(width < 1 or width != int(width) for width in hidden):
            raise ValueError(f"hidden={list(hidden)}: must be whole numbers ≥ 1")
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise([math.prod(shape), *hidden, classes]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        super().__init__(*layers[:-1])
