"""All randomness is a function of (seed, round, epoch), never of what ran before: nothing about RNGs needs saving."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(*parts: int | str) -> int:
    """A seed in [0, 2**63) from any parts, such as `(seed, round, epoch)`; different parts give unrelated seeds."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def seed_torch(*parts: int | str) -> None:
    """Seeds torch's own generators (initialisation, dropout, random pruning), on every device."""
    torch.manual_seed(derive(*parts))


@contextmanager
def seeded_by(seed: int) -> Iterator[None]:
    """Seed torch's own generators for a while; then they go on as if nothing had been drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Torch's own generators seeded for a while; then they go on as if nothing had been drawn."""
    with torch.random.fork_rng():
        seed_torch(*parts)
        yield


def permutation(count: int, *parts: int | str, device: torch.device | str = "cpu") -> torch.Tensor:
    """The order of `count` examples, int64 [count]; drawn on the CPU, so that every device sees the same order."""
    generator = torch.Generator().manual_seed(derive(*parts))
    return torch.randperm(count, generator=generator).to(device)
