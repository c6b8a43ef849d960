"""The file format of MNIST and similar data sets: images and labels as gzipped arrays of bytes."""

import gzip
import struct
import zlib
from collections.abc import Mapping

import torch

from prunelab.data.cache import Tensors, cache_folder, cached, downloaded
from prunelab.data.dataset import Dataset, divide, with_moments

FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


def decode(files: Mapping[str, bytes]) -> Tensors:
    """Return images, uint8 [n, rows, columns], and labels, uint8 [n], from four files; ValueError for a damaged one."""
    return {name: _array(file, files[file]) for name, file in FILES.items()}


def published(name: str, kind: str, limit: int | None) -> Dataset:
    """Return a data set that is downloaded in this format, its images [n, 1, rows, columns].

    Args:
        name: the data set's name in the cache folder.
        kind: torchvision's class of the data set, which knows addresses and MD5s.
    """

    def make() -> Tensors:
        from torchvision import datasets  # its import takes seconds

        source = getattr(datasets, kind)
        tensors = decode(downloaded(name, dict(source.resources), source.mirrors))
        return with_moments({key: x.unsqueeze(1) if x.dim() == 3 else x for key, x in tensors.items()})

    return divide(cached(cache_folder() / f"{name}.safetensors", make), limit)


def _array(file: str, content: bytes) -> torch.Tensor:
    """Decode two zero bytes, the type (8: uint8), the number of dimensions, four bytes per size, the elements."""
    try:
        data = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: {error}") from error
    dimensions = data[3] if len(data) > 3 and data[:3] == b"\0\0\x08" else 0
    shape = struct.unpack_from(f">{dimensions}I", data, 4) if len(data) >= 4 * (1 + dimensions) else ()
    start = 4 * (1 + dimensions)
    if not shape or len(data) - start != torch.Size(shape).numel():
        raise ValueError(f"{file}: is not an array of bytes in the format of MNIST")
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.uint8).view(shape)
