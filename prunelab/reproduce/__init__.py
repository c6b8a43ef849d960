"""Published results: presets, their measurement, and the verdict on each."""
