"""The process: seeds, device and threads, signals."""
