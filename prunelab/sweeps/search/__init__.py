"""`python -m prunelab.search`: an Optuna study whose trials are ordinary runs. optuna and torch are imported late."""
