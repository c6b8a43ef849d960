"""Models: plain nn.Modules without any code for pruning."""
