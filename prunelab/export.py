"""`python -m prunelab.export`: an older form of `prunelab export`."""

import sys

from prunelab.cli.export import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
