"""MNIST's file format, which its successors share: images and labels as gzipped arrays of bytes."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

import torch

from prunelab.data.cache import Tensors, downloaded
from prunelab.data.dataset import with_moments

FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


def decode(files: Mapping[str, bytes]) -> Tensors:
    """Images, uint8 [n, rows, columns], and labels, uint8 [n], of training and test, from the four files' contents.

    Raises:
        ValueError: for a file that is damaged, or of another form.
    """
    return {name: _array(file, files[file]) for name, file in FILES.items()}


def published(name: str, resources: Iterable[tuple[str, str]], mirrors: Sequence[str]) -> Tensors:
    """A data set of MNIST's form, downloaded: images, uint8 [n, 1, rows, columns], labels, and the images' moments.

    Args:
        resources: file names and their MD5s; with `mirrors` what torchvision's class for the data set knows.

    Raises:
        OSError: if the files are not there and cannot be downloaded.
    """
    tensors = decode(downloaded(name, dict(resources), mirrors))
    return with_moments({key: x.unsqueeze(1) if x.dim() == 3 else x for key, x in tensors.items()})


def _array(file: str, content: bytes) -> torch.Tensor:
    """Two zero bytes, the type (8: uint8), the number of dimensions; each size in four bytes; the elements."""
    try:
        data = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file}: {error}") from error
    dimensions = data[3] if len(data) > 3 and data[:3] == b"\0\0\x08" else 0
    shape = struct.unpack_from(f">{dimensions}I", data, 4) if len(data) >= 4 * (1 + dimensions) else ()
    start = 4 * (1 + dimensions)
    if not shape or len(data) - start != torch.Size(shape).numel():
        raise ValueError(f"{file}: is no array of bytes in MNIST's format")
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.uint8).view(shape)
