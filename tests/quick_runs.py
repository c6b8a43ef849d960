"""What makes the runs of tests quick: what only a few tests are about is left out or done once."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Iterator

from torch import Tensor, uint8

from prunelab.costs import card
from prunelab.data import mnist
from prunelab.tracking import tensorboard


def changes() -> Iterator[tuple[object, str, object]]:
    """Yield the object, the name and the new value of each attribute to be set.

    Nothing waits for the disk, which is for power cuts only, and takes half of a short run's time. MNIST's file is read
    once; files are compressed quickly; a mask is a picture of one pixel.
    """
    yield os, "fsync", lambda descriptor: None
    yield mnist, "decoded", functools.cache(mnist.decoded)
    yield card, "GZIP_LEVEL", 1
    yield tensorboard, "mask_image", one_pixel


def one_pixel(mask: Tensor) -> Tensor:
    return mask.new_zeros((1, 1), dtype=uint8)


def collect_less_garbage() -> None:
    """Collect rarely; and what is imported stays: libraries that collect garbage need not look at it each time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
