"""Verb `data inspect`: counts and shows the images of a data set or a synthetic set

Prints how many images each class has, and with --picture draws some of each.

  jaxmoust data inspect --source=digits
  jaxmoust data inspect --source=folder --path=my_images --split=test --picture=sheet.png
  jaxmoust data inspect --source=folder --path=imagenet --classes=imagenet100.txt
  jaxmoust data inspect --source=medmnist --path=bloodmnist.npz --split=val
  jaxmoust data inspect --path=runs/edm_set --picture=sheet.png
"""

import argparse
from pathlib import Path

from jaxmoust.jobs.parts.registry import BadInput


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("--source", default="", help="a name, such as digits, fashion_mnist, folder, tfds:NAME")
    parser.add_argument("--path", default="", help="where the images lie")
    parser.add_argument("--split", default="train", help="train or test")
    parser.add_argument("--classes", default="", help="a text file: the classes to use, one a line")
    parser.add_argument("--picture", default="", help="a PNG to write, a row for each class")


def main(args: argparse.Namespace) -> None:
    """Opens the images and prints what there is."""
    from jaxmoust.data.sources import registry
    from jaxmoust.data.synthetic.store import is_set, open_synthetic
    from jaxmoust.report import contact_sheet

    try:
        if args.picture and Path(args.picture).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise ValueError(f"--picture={args.picture}: allowed is a file to write, such as sheet.png.")
        if args.source:
            source = registry.open_source(args.source, args.split, args.path, args.classes)
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
