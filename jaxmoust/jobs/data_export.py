"""Verb `data export`: writes a data set or a synthetic set as plain files: class folders with metadata.csv, or Parquet

For torch, Hugging Face's `datasets`, or to look at. Folders are CLASS/IMAGE below --workdir, with a metadata.csv beside
them: file_name, label, and for a synthetic set how each image was sampled (index, seed, guidance, steps, generator,
prompt, file). Images are written byte for byte as in their files. --format=parquet writes one file instead (extra
`parquet`).

  jaxmoust data export --path=runs/edm_set --workdir=plain
  jaxmoust data export --source=folder --path=my_images --split=test --workdir=plain/test
  jaxmoust data export --path=runs/edm_set --format=parquet --workdir=parquet
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxmoust.jobs.parts.registry import BadInput


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    add = parser.add_argument
    add("--workdir", default="", help="the folder to write: a new or an empty one")
    add("--path", default="", help="a synthetic set, or where the images of --source lie")
    add("--source", default="", help="a name, such as digits, folder, tfds:NAME; '' is a synthetic set")
    add("--split", default="train", help="train or test, of a source")
    add("--classes", default="", help="a text file: the classes to use, one a line, of a source")
    add("--on_bad", default="refuse", choices=("refuse", "skip"), help="what an unreadable image of a folder does")
    add("--format", default="folder", choices=("folder", "parquet"), help="class folders with metadata.csv, or a file")


def main(args: argparse.Namespace) -> None:
    """Writes the files, and says how many."""
    from jaxmoust.data import exporter
    from jaxmoust.data.sources.image_folder import Rules
    from jaxmoust.data.sources.registry import open_source
    from jaxmoust.data.synthetic.store import open_synthetic
    from jaxmoust.jobs.parts.job import refusals

    if not args.workdir or not (args.path or args.source):
        raise BadInput(
            "Give --workdir=DIR, the folder to write, and --path=DIR of a synthetic set, or --source=NAME (with its "
            "--path)."
        )
    with refusals():
        if args.source:
            source = open_source(args.source, args.split, args.path, args.classes, Rules(on_bad=args.on_bad))
            files = [source.file(i) for i in range(len(source))]
            columns: Mapping[str, Sequence[Any]] = {"file": files} if all(files) else {}
        else:
            source, columns = open_synthetic(args.path), exporter.describe_set(args.path)
        if args.format == "parquet":
            exporter.export_parquet(source, columns, Path(args.workdir), args.split if args.source else "train")
        else:
            exporter.export_folder(source, columns, Path(args.workdir))
    print(f"{len(source):,} images of {len(source.class_names)} classes in {args.workdir}")
