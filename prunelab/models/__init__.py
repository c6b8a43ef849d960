"""Plain nn.Modules; they never know of pruning."""
