"""Kuzushiji-MNIST: 55,000 training, 5,000 validation and 10,000 test images of handwritten hiragana, downloaded once.

Source: Clanuwat et al. 2018, "Deep learning for classical Japanese literature", arXiv 1812.01718; CC BY-SA 4.0.
"""

from prunelab.data import idx
from prunelab.data.dataset import Dataset, describes


@describes(shape=(1, 28, 28), classes=10)
def kmnist(limit: int | None = None) -> Dataset:
    """Return Kuzushiji-MNIST: images [n, 1, 28, 28], normalised by `Split.batch`, and labels 0 to 9.

    Args:
        limit: at most this many examples of each split, the classes in proportion; None: all.

    Raises:
        OSError: if the cache folder cannot be used, or the files are missing and cannot be downloaded.
    """
    return idx.published("kmnist", "KMNIST", limit)
