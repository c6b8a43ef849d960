"""Seeds for all randomness, derived from (seed, round, epoch): no state of a generator has to be saved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) from parts such as `(seed, round, epoch)`; other parts give an unrelated seed."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def seed_torch(*parts: int | str) -> None:
    """Seed torch's default generators (initialisation, dropout, random pruning) on every device."""
    torch.manual_seed(derive(*parts))


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Seed torch's default generators within the context, and restore their state afterwards."""
    with torch.random.fork_rng():
        seed_torch(*parts)
        yield


def permutation(count: int, *parts: int | str, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return a random order of `count` examples, int64 [count]; drawn on the CPU, so that devices agree."""
    generator = torch.Generator().manual_seed(derive(*parts))
    return torch.randperm(count, generator=generator).to(device)
