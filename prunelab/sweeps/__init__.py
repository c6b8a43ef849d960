"""Many experiments: a grid of jobs, their launchers, their progress, a search."""
