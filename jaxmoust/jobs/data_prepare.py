"""Verb `data prepare`: downloads and prepares a data set of TFDS's own catalogue (needs the `tfds` extra)

Prints where the images lie; other verbs read them as data.source=tfds:NAME and data.path=DIR.

  jaxmoust data prepare --source=tfds:cifar10 --path=datasets
"""

import argparse

from jaxmoust.jobs.parts.registry import BadInput

WRITES = ("path",)  # flags that are places of this machine, for the command line


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("--source", default="", help="tfds:NAME, a name of TFDS's catalogue")
    parser.add_argument("--path", default="", help="where it is put; where TFDS looks, if empty")


def main(args: argparse.Namespace) -> None:
    """Prepares the data set."""
    from jaxmoust.data.sources.tfds import prepare_tfds

    if not args.source:
        raise BadInput("Give --source=tfds:NAME, a name of TFDS's catalogue.")
    try:
        print(prepare_tfds(args.source.removeprefix("tfds:"), args.path))
    except (ValueError, OSError, ImportError) as e:
        raise BadInput(str(e)) from e
