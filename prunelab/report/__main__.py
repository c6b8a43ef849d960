"""`python -m prunelab.report`: the older form of `prunelab report`."""

import sys

from prunelab.cli.report import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
