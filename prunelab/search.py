"""`python -m prunelab.search`: an older form of `prunelab search`."""

from prunelab.cli.main import main

if __name__ == "__main__":
    main("search")
