"""The real MNIST, bundled with the package: 55,000 training, 5,000 validation, 10,000 test digits.

LeCun, Cortes & Burges, "The MNIST database of handwritten digits"; Creative Commons Attribution-Share Alike 3.0.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save

from prunelab.data import Dataset, Split, stratified
from prunelab.files import writing
from prunelab.randomness import permutation

log = logging.getLogger(__name__)

BUNDLE = Path(__file__).parent / "files"
SPLIT_SEED = 55_000  # the split is the same in every experiment, whatever its seed
VALIDATION = 5_000
MEAN, STD = 0.1307, 0.3081  # of the 60,000 training images, scaled to [0, 1]
# Of the decoded pixels and labels, so that a damaged cache is noticed and made again.
SHA256 = "2bd29b997a56b59ee94f9c9fe6538bc15077073139c85207f198179dbd4f2189"


def mnist(limit: int | None = None) -> Dataset:
    """MNIST: images [n, 1, 28, 28], which `Split.batch` gives mean 0 and deviation 1, and labels 0 … 9.

    Args:
        limit: at most this many examples of each split, the classes in proportion; None: all.

    Raises:
        OSError: if neither the cache folder nor the bundle can be used.
    """
    raw = decoded(cache_folder() / "mnist.safetensors")
    order = permutation(60_000, SPLIT_SEED, "mnist")
    splits = {
        "train": ("train", order[VALIDATION:]),
        "validation": ("train", order[:VALIDATION]),
        "test": ("test", torch.arange(10_000)),
    }
    made = {}
    for name, (half, index) in splits.items():
        labels = raw[f"{half}_labels"][index]
        if limit is not None and limit < len(labels):
            chosen = stratified(labels, limit, SPLIT_SEED)
            index, labels = index[chosen], labels[chosen]
        images = raw[f"{half}_images"].index_select(0, index).unsqueeze(1)  # uint8 [n, 1, 28, 28]
        made[name] = Split(images, labels.long(), MEAN, STD)
    return Dataset(**made)


def cache_folder() -> Path:
    """`PRUNELAB_CACHE`, else `prunelab` in the user's XDG cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunelab"
    return Path(os.environ.get("PRUNELAB_CACHE") or default)


def decoded(path: Path) -> dict[str, torch.Tensor]:
    """The digits as uint8 tensors, from the file `path`, which is made from the bundle if it is missing or damaged.

    Any number of processes may ask at once: one makes the file, aside and under a lock; the others wait for it.
    """
    if (tensors := _read(path)) is not None:
        return tensors
    with writing(path.parent, "PRUNELAB_CACHE chooses another"), _locked(path.with_suffix(".lock")):
        if (tensors := _read(path)) is not None:
            return tensors
        if path.exists():
            log.warning("%s is damaged; made again from the bundled files", path)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mnist-") as aside:
            content = save(_extract(Path(aside)))
            temporary = Path(aside) / path.name
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    return load(content)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    """The tensors, if the file is there and whole."""
    try:
        tensors = load(path.read_bytes())
        return tensors if _digest(tensors) == SHA256 else None
    except (FileNotFoundError, NotADirectoryError, SafetensorError):
        return None


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _extract(folder: Path) -> dict[str, torch.Tensor]:
    """Lets torchvision verify (MD5) and read the bundled files, in a folder of their own."""
    from torchvision.datasets import MNIST  # only here: it takes a second, and once is enough

    shutil.copytree(BUNDLE, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    train = MNIST(str(folder), train=True, download=True)
    test = MNIST(str(folder), train=False)
    return {
        "train_images": train.data,  # uint8 [60000, 28, 28]
        "train_labels": train.targets.to(torch.uint8),
        "test_images": test.data,
        "test_labels": test.targets.to(torch.uint8),
    }
