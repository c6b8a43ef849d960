"""`python -m prunelab.compact`: an older form of `prunelab compact`."""

import sys

from prunelab.cli.compact import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
