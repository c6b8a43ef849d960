"""CIFAR-10, downloaded once: 45,000 training, 5,000 validation, 10,000 test photographs of animals and vehicles.

Krizhevsky 2009, "Learning multiple layers of features from tiny images". The binary version: Python's holds pickles.
"""

from __future__ import annotations

import io
import tarfile

import torch

from prunelab.data.cache import Tensors, cache_folder, cached, downloaded
from prunelab.data.dataset import Dataset, describes, divide, with_moments

FILE, MD5 = "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
HALVES = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
SHAPE = (3, 32, 32)


@describes(shape=SHAPE, classes=10)
def cifar10(limit: int | None = None) -> Dataset:
    """CIFAR-10: images [n, 3, 32, 32], whose channels `Split.batch` gives mean 0 and deviation 1, and labels 0 … 9.

    Args:
        limit: at most this many examples of each split, the classes in proportion; None: all.

    Raises:
        OSError: if the cache folder cannot be used, or the file is not there and cannot be downloaded.
    """
    return divide(cached(cache_folder() / "cifar10.safetensors", _decode), limit)


def _decode() -> Tensors:
    from torchvision.datasets import CIFAR10  # knows the address; only here, since it takes seconds

    content = downloaded("cifar10", {FILE: MD5}, [CIFAR10.url.removesuffix(CIFAR10.filename)])[FILE]
    tensors: Tensors = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for half, names in HALVES.items():
            records = torch.cat([_records(archive, f"cifar-10-batches-bin/{name}") for name in names])
            tensors[f"{half}_labels"] = records[:, 0].contiguous()
            tensors[f"{half}_images"] = records[:, 1:].contiguous().view(-1, *SHAPE)
    return with_moments(tensors)


def _records(archive: tarfile.TarFile, name: str) -> torch.Tensor:
    """uint8 [n, 3073]: the label, then the red, green and blue pixels, each row by row."""
    file = archive.extractfile(name)
    assert file is not None  # a file, not a folder: the archive is the published one
    return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).view(-1, 3073)
