"""Rows on their way out: to the console, to CSV files, to TensorBoard. A run folder is complete by itself."""
