"""A search: an Optuna study whose trials are ordinary runs."""
