"""Seeds for all randomness, derived from (seed, round, epoch): no state of a generator has to be saved."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


def derive(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) from parts such as `(seed, round, epoch)`; other parts give an unrelated seed."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def seed_all(*parts: int | str) -> None:
    """Seed the default generators of torch (on every device), NumPy and Python by `derive(*parts)`.

    A user's model may draw its weights, or its dropout, from any of them.
    """
    _seed(derive(*parts), torch.accelerator.is_available())


@contextmanager
def seeded_by(seed: int) -> Iterator[None]:
    """Seed the default generators of torch, NumPy and Python within the context; restore their states afterwards."""
    with generators_kept():
        _seed(seed, torch.cuda.is_initialized() or torch.backends.mps.is_available())
        yield


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restore the states of the default generators of torch, NumPy and Python at the end of the context."""
    before, cuda = HostGenerators.now(), torch.cuda.is_initialized()
    # A GPU that nothing has used stays untouched: its first use takes seconds and half a gigabyte of its memory.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else []):
        try:
            yield
        finally:
            before.restore()
    if torch.cuda.is_initialized() and not cuda:  # first used in the context: as torch seeds it at its first use
        torch.cuda.manual_seed_all(torch.initial_seed())


def seeded(*parts: int | str) -> AbstractContextManager[None]:
    """Seed all default generators by `derive(*parts)` within the context; restore their states afterwards."""
    return seeded_by(derive(*parts))


@dataclass(frozen=True)
class HostGenerators:
    """Return the states of NumPy's and Python's default generators, as plain data that a checkpoint can store."""

    numpy: tuple[Any, ...]
    python: tuple[Any, ...]

    @classmethod
    def now(cls) -> HostGenerators:
        """Return the present states."""
        kind, keys, *rest = np.random.get_state()
        return cls((kind, np.asarray(keys).tolist(), *rest), random.getstate())

    def restore(self) -> None:
        """Put the generators back into these states."""
        kind, keys, *rest = self.numpy
        np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
        random.setstate(self.python)


def _seed(seed: int, gpu: bool) -> None:
    if gpu:
        torch.manual_seed(seed)
    else:  # where there is none, `torch.manual_seed` keeps each seed, with a traceback, for one that may yet come
        torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def permutation(count: int, *parts: int | str, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return a random order of `count` examples, int64 [count]; drawn on the CPU, so that devices agree."""
    generator = torch.Generator().manual_seed(derive(*parts))
    return torch.randperm(count, generator=generator).to(device)
