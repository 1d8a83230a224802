r"""Verb `data import`: turns generated images (a folder or a zip, labelled by folder or by a CSV; CIFAKE) into a set

  jaxmoust data import --path=generated --workdir=runs/imported
  jaxmoust data import --path=generated.zip --labels=labels.csv --generator="Stable Diffusion 2" --guidance=2 \
    --workdir=runs/imported
  jaxmoust data import --source=cifake_fake --path=cifake.zip --split=train --workdir=runs/cifake

A folder for each class (all in one place, or below --split), or --labels: a table, on the disk or inside --path,
with columns such as file, label and, if known, prompt (CSV, JSON lines, Hugging Face's metadata.csv). --classes gives
the classes and their order. Images of one size.
Chunk folders of NVlabs' tools are labelled by the dataset.json beside them.
Nothing is unpacked: an archive with paths that lead out of it, links or a zip bomb is refused. Other files are listed.
"""

import argparse
from pathlib import Path

from jaxmoust.jobs.parts.registry import BadInput

MOST_LISTED = 20
FIELDS = ("source", "split", "classes", "name", "generator", "seed", "guidance", "steps")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    add = parser.add_argument
    add("--workdir", default="", help="the set to write")
    add("--path", default="", help="a folder or a zip archive of images")
    add("--source", default="", help="where that is another source, its name: cifake_fake, ...")
    add("--split", default="", help="the part of it")
    add("--labels", default="", help="a table with columns such as file, label[, prompt]")
    add("--classes", default="", help="a text file: the classes to use, one a line")
    add("--background", default="white", help="the colour that transparent pixels are laid on")
    add("--value_range", default="", help="of 16-bit and float images what becomes black and white: 0,4095 or file")
    add("--on_bad", default="refuse", choices=("refuse", "skip"), help="what a file that cannot be read does")
    add("--name", default="", help="what the set is called")
    add("--generator", default="", help="what made the images")
    add("--seed", type=int, help="the generator's seed, if known")
    add("--guidance", type=float, help="its guidance, if known; 1 is off")
    add("--steps", type=int, help="its sampling steps, if known")


def main(args: argparse.Namespace) -> None:
    """Imports the images and says what was passed over."""
    from jaxmoust.data.checks import listed
    from jaxmoust.data.image import Reading
    from jaxmoust.data.synthetic.importer import import_images

    if not (args.path or args.source) or not args.workdir:
        raise BadInput("Give --path=DIR or --path=FILE.zip, the generated images, and --workdir=DIR, the set to write.")
    fields = {name: getattr(args, name) for name in FIELDS}
    try:
        reading = Reading(args.background, args.value_range)
        how = {"table": args.labels, "reading": reading, "on_bad": args.on_bad}
        done = import_images(args.path, Path(args.workdir), **how, **fields)
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e
    print(f"{done.num_images:,} images of {len(done.class_names)} classes in {args.workdir}")
    for what, files in (("passed over", done.passed_over), ("left out (--on_bad=skip)", done.skipped)):
        if files:
            print(f"{len(files):,} files {what}: {listed(files, MOST_LISTED)}")
