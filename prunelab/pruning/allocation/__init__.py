"""Allocations: how many units are pruned from each tensor. One allocation per file."""
