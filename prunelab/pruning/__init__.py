"""What to prune: masks, criteria, granularities, allocations, schedules. It depends on torch alone."""
