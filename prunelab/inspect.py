"""`python -m prunelab.inspect`: an older form of `prunelab inspect`."""

from prunelab.cli.main import main

if __name__ == "__main__":
    main("inspect")
