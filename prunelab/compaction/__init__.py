"""Compaction: a masked network becomes a really smaller one that computes the same function, and proves it.

compacted = compact(model, example)
proof = prove(model, compacted.model, inputs)
"""

from __future__ import annotations

from prunelab.compaction.files import load, rebuild, save, shapes
from prunelab.compaction.proof import Proof, prove
from prunelab.compaction.shrink import Compacted, compact

__all__ = ["Compacted", "Proof", "compact", "load", "prove", "rebuild", "save", "shapes"]
