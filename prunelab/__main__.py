"""`python -m prunelab`: the same as the command `prunelab`."""

from prunelab.cli.main import main

if __name__ == "__main__":
    main()
