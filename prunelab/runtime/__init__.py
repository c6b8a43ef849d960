"""Settings of the process: random seeds, device, threads and signals."""
