"""Training and evaluation on data in memory."""
