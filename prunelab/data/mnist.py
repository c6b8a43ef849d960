"""MNIST, bundled with the package: 55,000 training, 5,000 validation and 10,000 test images of digits.

Source: LeCun, Cortes & Burges, "The MNIST database of handwritten digits"; CC BY-SA 3.0.
"""

from pathlib import Path

import torch

from prunelab.data import idx
from prunelab.data.cache import Tensors, UnavailableError, cache_folder, cached, digest
from prunelab.data.dataset import SPLIT_SEED, Dataset, describes, divide
from prunelab.runtime.seeding import permutation

BUNDLE = Path(__file__).parent / "files" / "MNIST" / "raw"
MEAN, STD = 0.1307, 0.3081  # of the 60,000 training images, scaled to [0, 1] and rounded as is customary
# Digest of the decoded pixels and labels: it detects a damaged bundle or cache.
SHA256 = "2bd29b997a56b59ee94f9c9fe6538bc15077073139c85207f198179dbd4f2189"


@describes(shape=(1, 28, 28), classes=10)
def mnist(limit: int | None = None) -> Dataset:
    """Return MNIST: images [n, 1, 28, 28], normalised by `Split.batch`, and labels 0 to 9.

    Args:
        limit: at most this many examples of each split, the classes in proportion; None: all.

    Raises:
        OSError: if neither the cache folder nor the bundle can be used.
    """
    raw = decoded(cache_folder() / "mnist.safetensors")
    images = {name: tensor.unsqueeze(1) for name, tensor in raw.items() if name.endswith("images")}  # [n, 1, 28, 28]
    moments = {"mean": torch.tensor(MEAN, dtype=torch.float64), "std": torch.tensor(STD, dtype=torch.float64)}
    order = permutation(60_000, SPLIT_SEED, "mnist")  # the first 5,000 are the validation split
    return divide({**raw, **images, **moments}, limit, order)


def decoded(path: Path) -> Tensors:
    """Return images, uint8 [n, 28, 28], and labels from a cache file; write it from the bundle if it is missing."""
    return cached(path, _extract, SHA256)


def _extract() -> Tensors:
    try:
        tensors = idx.decode({file: (BUNDLE / file).read_bytes() for file in idx.FILES.values()})
        if digest(tensors) != SHA256:
            raise ValueError("not the published digits")
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{BUNDLE}: the bundled MNIST is damaged ({error}); install prunelab again") from error
    return tensors
