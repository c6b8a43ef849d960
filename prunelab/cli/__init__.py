"""The command line `prunelab`: `main` chooses what to do, and there is one file for each subcommand."""
