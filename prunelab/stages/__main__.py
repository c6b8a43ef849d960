"""`python -m prunelab.stages`: the older form of `prunelab stages`."""

from prunelab.cli.main import main

if __name__ == "__main__":
    main("stages")
