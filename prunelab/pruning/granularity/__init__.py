"""Granularities: what is removed as one. One granularity per file."""
