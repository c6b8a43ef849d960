"""Several experiments: a grid of jobs, the launchers that run them, their progress, and a search."""
