"""CIFAR-10: 45,000 training, 5,000 validation and 10,000 test photographs of animals and vehicles, downloaded once.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images". This is the binary version; the Python
version contains pickles.
"""

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
    """Return CIFAR-10: images [n, 3, 32, 32], normalised per channel by `Split.batch`, and labels 0 to 9.

    Args:
        limit: at most this many examples of each split, the classes in proportion; None: all.

    Raises:
        OSError: if the cache folder cannot be used, or the file is missing and cannot be downloaded.
    """
    return divide(cached(cache_folder() / "cifar10.safetensors", _decode), limit)


def _decode() -> Tensors:
    from torchvision.datasets import CIFAR10  # for the address; its import takes seconds

    content = downloaded("cifar10", {FILE: MD5}, [CIFAR10.url.removesuffix(CIFAR10.filename)])[FILE]
    tensors: Tensors = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for half, names in HALVES.items():
            records = torch.cat([_records(archive, f"cifar-10-batches-bin/{name}") for name in names])
            tensors[f"{half}_labels"] = records[:, 0].contiguous()
            tensors[f"{half}_images"] = records[:, 1:].contiguous().view(-1, *SHAPE)
    return with_moments(tensors)


def _records(archive: tarfile.TarFile, name: str) -> torch.Tensor:
    """Return uint8 [n, 3073]: the label, then the red, green and blue pixels, each row by row."""
    file = archive.extractfile(name)
    assert file is not None  # the MD5 shows that it is the published archive
    return torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).view(-1, 3073)
