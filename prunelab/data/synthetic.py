"""A synthetic data set of any shape, generated in memory."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from prunelab.data.dataset import SPLIT_SEED, Dataset, Split, describes
from prunelab.runtime.seeding import derive

NOISE = 0.16  # standard deviation ÷ √(number of values): images of every size are equally hard to classify


@describes(shape=(1, 28, 28), classes=10)
def synthetic(examples: int = 5_000, shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> Dataset:
    """Return examples that are their class's pattern plus white noise; each class has a smooth random pattern.

    At 28 × 28 the noise is four times as strong as the pattern. The same arguments give the same data. A linear model
    learns the default in two epochs.

    Args:
        examples: number of training examples, at least `classes`; validation and test have a fifth as many each.
        shape: shape of one example, [channels, height, width].
        classes: number of equally frequent classes, ≥ 2.

    Returns:
        Inputs, float32 [n, *shape], with mean near 0 and standard deviation near 1, and labels.

    Raises:
        ValueError: if a value is outside its range.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape={list(shape)}: must be [channels, height, width], each a whole number ≥ 1")
    if classes < 2:
        raise ValueError(f"classes={classes}: must be a whole number ≥ 2")
    if examples < classes:
        raise ValueError(f"examples={examples}: must be a whole number ≥ classes={classes}")
    generator = torch.Generator().manual_seed(derive(SPLIT_SEED, "synthetic"))
    coarse = torch.randn(classes, shape[0], 4, 4, generator=generator)
    patterns = F.interpolate(coarse, (shape[1], shape[2]), mode="bicubic", align_corners=True)  # [classes, *shape]
    patterns = patterns / patterns.square().mean((1, 2, 3), keepdim=True).sqrt()

    def split(count: int) -> Split:
        labels = torch.arange(count)[torch.randperm(count, generator=generator)] % classes
        noise = torch.randn(count, *shape, generator=generator) * strength
        return Split((patterns[labels] + noise) / (1 + strength**2) ** 0.5, labels)

    strength = NOISE * math.prod(shape) ** 0.5
    others = max(examples // 5, classes)
    return Dataset(split(examples), split(others), split(others))
