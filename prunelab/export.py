"""`python -m prunelab.export`: an older form of `prunelab export`."""

from prunelab.cli.main import main

if __name__ == "__main__":
    main("export")
