"""Verb `data inspect`: counts and shows the images of a data set or a synthetic set

Prints how many images each class has, and with --picture draws some of each. With --check it decodes every image and
reports how many are for training and held out, which files are passed over, which are in train and in test, and what a
study would refuse. The fields of a configuration's data section that say how files are read are options, too: with
--near_duplicates_by copies are also found by a public network's features.

  jaxmoust data inspect --source=digits
  jaxmoust data inspect --source=folder --path=my_images --split=test --picture=sheet.png
  jaxmoust data inspect --source=folder --path=my_images --check
  jaxmoust data inspect --source=folder --path=my_images --labels=labels.csv --group=patient --check
  jaxmoust data inspect --source=folder --path=my_images --check --near_duplicates_by=facebook/dinov2-small
  jaxmoust data inspect --source=folder --path=imagenet --classes=imagenet100.txt
  jaxmoust data inspect --source=medmnist --path=bloodmnist.npz --split=val
  jaxmoust data inspect --path=runs/edm_set --picture=sheet.png
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from jaxmoust.jobs.parts.registry import BadInput

WRITES = ("picture",)  # flags that are places of this machine, for the command line


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    from jaxmoust.data.sources.image_folder import Rules

    parser.add_argument("--source", default="", help="a name, such as digits, fashion_mnist, folder, tfds:NAME")
    parser.add_argument("--path", default="", help="where the images lie")
    parser.add_argument("--split", default="train", help="train or test")
    parser.add_argument("--classes", default="", help="a text file: the classes to use, one a line")
    parser.add_argument("--picture", default="", help="a PNG to write, a row for each class")
    parser.add_argument("--check", action="store_true", help="decode every image, and say all that is to be said")
    for field in dataclasses.fields(Rules):
        parser.add_argument(f"--{field.name}", default=field.default, help=f"as data.{field.name} of a configuration")


def main(args: argparse.Namespace) -> None:
    """Opens the images and prints what there is."""
    from jaxmoust.data.sources import inspection, registry
    from jaxmoust.data.sources.image_folder import Rules
    from jaxmoust.data.synthetic.store import is_set, open_synthetic
    from jaxmoust.report import contact_sheet

    try:
        if args.picture and Path(args.picture).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise ValueError(f"--picture={args.picture}: expected a file to write, such as sheet.png.")
        rules = Rules(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Rules)})
        look = None
        if rules.near_duplicates_by:
            from jaxmoust.jobs.parts.inputs import Inputs

            look = Inputs().look(rules.near_duplicates_by)
        if args.check:
            _print(inspection.inspect(args.source, args.path, args.classes, rules, look))
            return
        if args.source:
            source = registry.open_source(args.source, args.split, args.path, args.classes, rules, look)
        elif args.path:
            if not is_set(Path(args.path)):
                raise ValueError(
                    f"{args.path} is no finished synthetic set. Of other images say what they are: --source=folder for "
                    "folders of images by class, --source=medmnist for a MedMNIST file, ..."
                )
            source = open_synthetic(Path(args.path))
        else:
            raise ValueError("Give --source=NAME (with --path=DIR for a folder), or --path=DIR of a synthetic set.")
        if args.picture:
            contact_sheet.contact_sheet(source).save(args.picture)
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e
    shape = "images of several sizes" if source.shape is None else "x".join(map(str, source.shape))
    print(f"{source.name}: {len(source):,} images, {shape}, {len(source.class_names)} classes, digest {source.digest}")
    width = max(map(len, source.class_names))
    for name, count in zip(source.class_names, source.class_counts(), strict=True):
        print(f"  {name:<{width}}  {count:>8,}")
    if args.picture:
        print(args.picture)


def _print(found: Any) -> None:
    """Prints what an inspection found. Raises: BadInput: a study would refuse it."""
    for split, source in found.splits.items():
        print(f"{len(source):,} images {found.SAID[split]}")
    if found.splits:
        counts = [source.class_counts() for source in found.splits.values()]
        names = next(iter(found.splits.values())).class_names
        for name, *of_class in zip(names, *counts, strict=True):
            print(f"  {name:<{max(map(len, names))}}  {'  '.join(f'{count:>8,}' for count in of_class)}")
    for text in found.notes:
        print(text)
    if found.refused:
        raise BadInput("A study would refuse these images:\n" + "\n".join(found.refused))
    print("Nothing that a study would refuse.")
