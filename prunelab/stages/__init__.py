"""The store of stages: named by their inputs, written whole or not at all, verified before use."""
