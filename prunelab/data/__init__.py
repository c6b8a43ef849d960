"""Data sets that are held in memory; batches are index slices."""

from prunelab.data.dataset import Dataset, Split, describes

__all__ = ["Dataset", "Split", "describes"]
