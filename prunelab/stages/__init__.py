"""Stages: stored results, named by a hash of their inputs, written atomically and verified before use."""
