"""`python -m jaxmoust` is `jaxmoust`."""

from jaxmoust.cli import main

if __name__ == "__main__":
    main()
