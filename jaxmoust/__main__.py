"""`python -m jaxmoust` is `jaxmoust`."""

import sys

from jaxmoust.cli import main

if __name__ == "__main__":
    sys.exit(main())
