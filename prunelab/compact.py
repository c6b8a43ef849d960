"""`python -m prunelab.compact`: an older form of `prunelab compact`."""

from prunelab.cli.main import main

if __name__ == "__main__":
    main("compact")
