"""Verb `config`: prints a configuration with every field, each with its description

What is printed is a configuration file: saved, it runs. Fields that are set on the command line are in it.

  jaxmoust config --config=configs/classifier/digits_resnet.py
  jaxmoust config --config=configs/classifier/digits_resnet.py --config.optim.name=sgd > mine.py

--cost prints instead what a training of it costs by arithmetic, on accelerators that compute without a pause: no run
reaches that. It needs no data.

  jaxmoust config --config=configs/classifier/imagenet_resnet50.py --cost
  jaxmoust config --config=configs/generator/imagenet100_edm.py --cost --num_classes=100
"""

import argparse

from jaxmoust.config import python_text
from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.jobs.parts.job import refusals
from jaxmoust.jobs.parts.registry import BadInput

OVERRIDES = True  # it is told the words --config.field=value


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("--config", default="", help="PATH[:arg] of the configuration file")
    parser.add_argument("--cost", action="store_true", help="print what a training of it costs on accelerators")
    parser.add_argument("--num_classes", type=int, help="of the images, for --cost, which opens none; 1000")


def main(args: argparse.Namespace, words: list[str]) -> None:
    """Prints the configuration."""
    if not args.config:
        raise BadInput("--config is missing: the configuration file, --config=PATH[:arg].")
    entry, config, schema = configuration(args.config, words)
    if args.cost:
        from jaxmoust.jobs.parts.cost import cost_text  # with JAX, which the rest does without

        with refusals():
            print(cost_text(config, args.num_classes or 1000))
        return
    if args.num_classes is not None:
        raise BadInput("--num_classes would do nothing: it goes with --cost.")
    given = " ".join([f"--config={args.config}", *words]).replace('"', "'")
    print(python_text(config, schema, f"What `jaxmoust {entry.verb} {given}` runs, with every field."))
