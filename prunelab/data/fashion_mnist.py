"""Fashion-MNIST, downloaded once: 55,000 training, 5,000 validation, 10,000 test articles of clothing.

Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747; MIT licence.
"""

from __future__ import annotations

from prunelab.data import idx
from prunelab.data.cache import Tensors, cache_folder, cached
from prunelab.data.dataset import Dataset, describes, divide


@describes(shape=(1, 28, 28), classes=10)
def fashion_mnist(limit: int | None = None) -> Dataset:
    """Fashion-MNIST: images [n, 1, 28, 28], which `Split.batch` gives mean 0 and deviation 1, and labels 0 … 9.

    Args:
        limit: at most this many examples of each split, the classes in proportion; None: all.

    Raises:
        OSError: if the cache folder cannot be used, or the files are not there and cannot be downloaded.
    """
    return divide(cached(cache_folder() / "fashion_mnist.safetensors", _decode), limit)


def _decode() -> Tensors:
    from torchvision.datasets import FashionMNIST  # knows the addresses and the MD5s; only here, since it takes seconds

    return idx.published("fashion_mnist", FashionMNIST.resources, FashionMNIST.mirrors)
