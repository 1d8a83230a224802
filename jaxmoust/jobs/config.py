"""Verb `config`: prints a configuration with every field, each with its description

What is printed is a configuration file: saved, it runs. Fields that are set on the command line are in it.

  jaxmoust config --config=configs/classifier/digits_resnet.py
  jaxmoust config --config=configs/classifier/digits_resnet.py --config.optim.name=sgd > mine.py
"""

import argparse

from jaxmoust.config import python_text
from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.jobs.parts.registry import BadInput

OVERRIDES = True  # it is told the words --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("--config", default="", help="PATH[:arg] of the configuration file")


def main(args: argparse.Namespace, words: list[str]) -> None:
    """Prints the configuration."""
    if not args.config:
        raise BadInput("--config is missing: the configuration file, --config=PATH[:arg].")
    entry, config, schema = configuration(args.config, words)
    given = " ".join([f"--config={args.config}", *words]).replace('"', "'")
    print(python_text(config, schema, f"What `jaxmoust {entry.verb} {given}` runs, with every field."))
