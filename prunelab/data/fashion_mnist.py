"""Fashion-MNIST: 55,000 training, 5,000 validation and 10,000 test images of articles of clothing, downloaded once.

Source: Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747; MIT licence.
"""

from prunelab.data import idx
from prunelab.data.dataset import Dataset, describes


@describes(shape=(1, 28, 28), classes=10)
def fashion_mnist(limit: int | None = None) -> Dataset:
    """Return Fashion-MNIST: images [n, 1, 28, 28], normalised by `Split.batch`, and labels 0 to 9.

    Args:
        limit: at most this many examples of each split, the classes in proportion; None: all.

    Raises:
        OSError: if the cache folder cannot be used, or the files are missing and cannot be downloaded.
    """
    return idx.published("fashion_mnist", "FashionMNIST", limit)
