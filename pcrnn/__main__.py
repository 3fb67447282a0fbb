"""`python -m pcrnn`."""

import sys

from pcrnn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
