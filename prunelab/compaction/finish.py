"""Compaction at the end of a run: the smaller network, its proof on the test set, its files, its record."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.compaction import compact_files
from prunelab.compaction.compacted import Compacted, report
from prunelab.compaction.proof import Proof, prove
from prunelab.compaction.shrink import compact
from prunelab.costs.card import Form
from prunelab.data.dataset import Split

ROUND_TO = 4  # channels of a convolution in the compact network of a run
RANDOM, CHUNK = 256, 200  # random inputs of the proof; test examples that are run at once


@dataclass(frozen=True)
class CompactRecord:
    """What the summary of a run says of compaction.

    Attributes:
        removed: one sentence per layer that became smaller.
        kept_because: sentences on what has no weights and is still there.
        largest_difference, largest_difference_float64: of outputs, absolute, on random inputs and the test set.
        same_classes: whether both networks predict the same class for every input.
        agree: whether the proof holds.
        inputs: how many inputs were compared.
    """

    removed: list[str]
    kept_because: list[str]
    largest_difference: float
    largest_difference_float64: float
    same_classes: bool
    agree: bool
    inputs: int

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        """The proof, then what was removed, then what stays and why."""
        proof = Proof(self.largest_difference, self.same_classes, self.largest_difference_float64, 0.0, self.inputs)
        return report(proof, self.removed, self.kept_because)


def finish(model: nn.Module, test: Split, folder: Path) -> tuple[Compacted, CompactRecord]:
    """Compact a network, prove it on random inputs and on the test set, and write it into the run folder.

    Args:
        model: pruned weights are zero; stays as it is.
        test: both networks are compared on it; nothing is chosen by it.
        folder: gets `compact.safetensors` and `compact.json`.

    Returns:
        The compact network, and the record for the summary.
    """
    example, _ = test.batch(slice(0, 1))
    compacted = compact(model, example, ROUND_TO)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((RANDOM, *example.shape[1:]), generator=generator).to(example)
    proofs = [prove(model, compacted.model, noise), prove(model, compacted.model, _inputs(test))]
    both = proofs[0].and_also(proofs[1])
    compact_files.save(folder, compacted)
    return compacted, CompactRecord(
        removed=compacted.removed,
        kept_because=compacted.kept_because,
        largest_difference=both.largest_difference,
        largest_difference_float64=both.in_float64 or 0.0,
        same_classes=both.same_classes,
        agree=all(proof.agree for proof in proofs),
        inputs=both.inputs,
    )


def form(compacted: Compacted, folder: Path) -> Form:
    """Return the compact network and its files for the cost card."""
    files = (folder / compact_files.WEIGHTS, folder / compact_files.SHAPES)
    return Form(deepcopy(compacted.model).cpu().eval(), files)


def _inputs(split: Split) -> Iterator[Tensor]:
    for first in range(0, len(split), CHUNK):
        yield split.batch(slice(first, first + CHUNK))[0]
