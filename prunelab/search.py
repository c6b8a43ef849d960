"""`python -m prunelab.search`: an older form of `prunelab search`."""

import sys

from prunelab.cli.search import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
