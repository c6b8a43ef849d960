"""Compaction: a masked network becomes a really smaller one that computes the same function, and proves it.

compacted = compact(model, example)
proof = prove(model, compacted.model, inputs)
"""

from __future__ import annotations

from prunelab.compact.proof import Proof, prove
from prunelab.compact.shrinking import Compacted, compact
from prunelab.compact.storing import load, rebuild, save, shapes

__all__ = ["Compacted", "Proof", "compact", "load", "prove", "rebuild", "save", "shapes"]
