"""Criteria: one score ≥ 0 for each weight; the smallest scores are pruned. One criterion per file."""
