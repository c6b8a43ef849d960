"""`python -m prunelab.inspect`: an older form of `prunelab inspect`."""

import sys

from prunelab.cli.inspect import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
