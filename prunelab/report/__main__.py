"""`python -m prunelab.report`: the older form of `prunelab report`."""

from prunelab.cli.main import main

if __name__ == "__main__":
    main("report")
