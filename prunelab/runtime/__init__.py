"""The process and its files: seeds, device, signals, standard streams, fresh processes, safe reading of files."""
