"""Writing records to the console, to CSV files and to TensorBoard, and the folder of a run."""
