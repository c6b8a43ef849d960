"""Compaction: a network with zeros becomes a really smaller one that computes the same function, with proof."""

from prunelab.compaction.compact_files import load, rebuild, save, shapes
from prunelab.compaction.compacted import Compacted
from prunelab.compaction.proof import Proof, prove
from prunelab.compaction.shrink import compact

__all__ = ["Compacted", "Proof", "compact", "load", "prove", "rebuild", "save", "shapes"]
