"""Callbacks that prune inside the training loops of other libraries."""
