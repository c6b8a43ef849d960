"""Small data sets in the published formats, ways to damage files, and what a data set contains."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct

import torch

from prunelab.data.dataset import Dataset, Split


def digest(data: Dataset) -> str:
    found = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        found.update(split.inputs.numpy().tobytes() + split.labels.numpy().tobytes())
    return found.hexdigest()


def examples(split: Split) -> list[tuple[bytes, int]]:
    return [(image.tobytes(), int(label)) for image, label in zip(split.inputs.numpy(), split.labels, strict=True)]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "flipped": flip,
    "cut": lambda content: content[: len(content) // 3],
    "empty": lambda content: b"",
    "garbage": lambda content: os.urandom(1_000),
    "longer": lambda content: content + b"x",
}


def idx_bytes(array):
    """As the four files have it."""
    return gzip.compress(
        struct.pack(f">HBB{array.dim()}I", 0, 8, array.dim(), *array.shape) + array.numpy().tobytes(), 1
    )


def small_set(shape, train=200, test=30):
    generator = torch.Generator().manual_seed(1)
    made = {}
    for half, count in (("train", train), ("test", test)):
        made[f"{half}_images"] = torch.randint(0, 256, (count, *shape), generator=generator).to(torch.uint8)
        made[f"{half}_labels"] = (torch.arange(count) % 10).to(torch.uint8)
    return made
