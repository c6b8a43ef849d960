"""Compaction of a finished network, from proof to files to facts for the summary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.compaction import files as storing
from prunelab.compaction.proof import Proof, prove
from prunelab.compaction.shrink import MULTIPLE, Compacted, compact
from prunelab.costs.card import Form
from prunelab.data.dataset import Split
from prunelab.pruning import masks

RANDOM, CHUNK = 256, 200  # random inputs of the proof; examples at once
Row = dict[str, Any]


def finish(model: nn.Module, test: Split, folder: Path) -> tuple[Compacted, Row]:
    """Compacts a network, proves it on random inputs and on the test set, and writes it into the run folder.

    Args:
        model: with masks or with zeros baked in; stays as it is.
        test: nothing is chosen by it; both networks are only compared on it.
        folder: gets `compact.safetensors` and `compact.json`.

    Returns:
        The compact network, and facts for the summary, plain data: `removed`, `kept_because`, `largest_difference`,
        `largest_difference_float64`, `same_classes`, `agree`, `inputs`.
    """
    dense = masks.plain_copy(model).eval()
    example, _ = test.batch(slice(0, 1))
    compacted = compact(dense, example, MULTIPLE)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((RANDOM, *example.shape[1:]), generator=generator).to(example)
    found = [prove(dense, compacted.model, noise), prove(dense, compacted.model, _inputs(test))]
    storing.save(folder, compacted)
    return compacted, _facts(compacted, found)


def form(compacted: Compacted, folder: Path) -> Form:
    """What `finish` made and wrote, for the cost card."""
    return Form(masks.plain_copy(compacted.model).cpu().eval(), (folder / storing.WEIGHTS, folder / storing.SHAPES))


def _inputs(split: Split) -> Iterator[Tensor]:
    for first in range(0, len(split), CHUNK):
        yield split.batch(slice(first, first + CHUNK))[0]


def _facts(compacted: Compacted, found: list[Proof]) -> Row:
    return {
        "removed": compacted.removed,
        "kept_because": compacted.kept_because,
        "largest_difference": max(proof.largest_difference for proof in found),
        "largest_difference_float64": max(proof.in_float64 or 0.0 for proof in found),
        "same_classes": all(proof.same_classes for proof in found),
        "agree": all(proof.agree for proof in found),
        "inputs": sum(proof.inputs for proof in found),
    }


def table(facts: Row) -> str:
    """What a person reads."""
    agree = "the same class for all" if facts["same_classes"] else "NOT the same classes"
    lines = [
        f"on {facts['inputs']:,} inputs: {agree}; largest difference {facts['largest_difference']:.2g}, "
        f"in float64 {facts['largest_difference_float64']:.2g}",
    ]
    for title, key in (("removed", "removed"), ("stays", "kept_because")):
        lines += ["", title, *(f"  {sentence}" for sentence in facts[key] or ["nothing"])]
    return "\n".join(lines)
