"""`python -m prunelab.stages`: the older form of `prunelab stages`."""

import sys

from prunelab.cli.stages import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
