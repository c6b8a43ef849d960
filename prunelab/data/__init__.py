"""Data sets in memory; a batch is an index slice."""

from prunelab.data.dataset import Dataset, Split, describes

__all__ = ["Dataset", "Split", "describes"]
