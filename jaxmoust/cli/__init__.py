"""The command line: reads words, runs a verb, prints what became of it and exits with a code."""

from jaxmoust.cli.main import call, main, run

__all__ = ["call", "main", "run"]
