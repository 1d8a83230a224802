"""Verb `predict`: predicts the classes of new images by a trained classifier

Every image below --path, in sub-folders or a zip archive too, at any size, grey or colour; other files are named.
Writes a CSV file with a row for each: file, label, probability, and of --top=K also the next ones, label_2,
probability_2, ... Files that cannot be read are all listed and nothing is written; --on_bad=skip goes on without them.

  jaxmoust predict --checkpoint=runs/mixed --path=new_images
  jaxmoust predict --checkpoint=runs/mixed@best --path=new_images.zip --top=3 --output=top3.csv
"""

import argparse
import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmoust.jobs.parts.registry import BadInput
from jaxmoust.runtime.paths import atomic_write, visible

if TYPE_CHECKING:
    from jaxmoust.data.sources.archive import FileImages
    from jaxmoust.jobs.parts.classifier import Classifier

CHUNK_IMAGES = 1024  # decoded and held at once
MOST_LISTED = 20

WRITES = ("output",)  # flags that are places of this machine, for the command line


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("--checkpoint", default="", help="the folder of a trained classifier; DIR@best for its best")
    parser.add_argument("--path", default="", help="a folder or a zip archive of images, or one image")
    parser.add_argument("--top", type=int, default=1, help="how many classes are named for each image")
    parser.add_argument("--output", default="predictions.csv", help="the file to write")
    parser.add_argument("--on_bad", default="refuse", choices=("refuse", "skip"), help="what an unreadable file does")


def main(args: argparse.Namespace) -> None:
    """Predicts, writes the file, and says how often each class was predicted."""
    from jaxmoust.jobs.parts.job import refusals

    with refusals():
        classifier, files, passed_over = _opened(args)
        names, probabilities, faults = _predicted(classifier, files)
        listed = "\n  ".join([*faults[:MOST_LISTED], *(["..."] if len(faults) > MOST_LISTED else [])])
        if faults and (args.on_bad == "refuse" or not names):
            raise ValueError(
                f"{len(faults):,} of {len(files):,} images in {args.path} cannot be read; nothing was written. "
                f"Replace or remove them, or give --on_bad=skip.\n  {listed}"
            )
        table = csv_text(names, probabilities, classifier.result["class_names"], args.top)
        atomic_write(Path(args.output), table)
    if passed_over:
        more = ", ..." if len(passed_over) > MOST_LISTED else ""
        print(f"{len(passed_over):,} files passed over: {', '.join(passed_over[:MOST_LISTED])}{more}")
    if faults:
        print(f"{len(faults):,} files skipped:\n  {listed}")
    counts = Counter(probabilities.argmax(1).tolist())
    named = ", ".join(f"{classifier.result['class_names'][k]} {count:,}" for k, count in counts.most_common(10))
    print(f"{len(names):,} images: {named}{', ...' if len(counts) > 10 else ''}\n{args.output}")


def _opened(args: argparse.Namespace) -> "tuple[Classifier, FileImages, list[str]]":
    """The classifier, the images, and other files beside them. Raises: ValueError: there is none, or no image."""
    from jaxmoust.data.sources.archive import FileImages, Members, open_members
    from jaxmoust.data.sources.labels import is_image, suffixes
    from jaxmoust.jobs.parts.classifier import open_trained
    from jaxmoust.jobs.parts.inputs import Inputs, rules_of

    if not args.checkpoint or not args.path:
        raise BadInput("Give --checkpoint=DIR, the folder of a trained classifier, and --path=DIR, a folder of images.")
    output = Inputs().output(args.checkpoint, "classify", "train")
    num_classes = len(output.result.get("class_names") or ())
    if not num_classes:
        raise ValueError(
            f"{output.folder} does not say what its classes are called (class_names in result.json), so nothing can be "
            "named. Train it again, or give another run."
        )
    if not 1 <= args.top <= num_classes:
        raise ValueError(f"--top={args.top}: expected 1 to {num_classes}, the classes that the classifier knows.")
    if Path(args.output).is_dir() or not Path(args.output).absolute().parent.is_dir():
        raise ValueError(f"--output={args.output}: expected a file to write, in a folder that exists.")
    path = Path(args.path).expanduser()
    lone = path.is_file() and is_image(path.name)
    members = Members(path.parent, (path.name,)) if lone else open_members(path)
    if not (names := tuple(filter(is_image, members.names))):
        raise ValueError(f"Got no image in {path}, expected one of {', '.join(suffixes())}. Correct the path.")
    passed_over = [name for name in members.names if not is_image(name)]
    reading = rules_of(output.config["data"]).reading
    return open_trained(output), FileImages(Members(members.path, names), 3, reading), passed_over


def _predicted(one: "Classifier", files: "FileImages") -> tuple[list[str], np.ndarray, list[str]]:
    """Names of the images that could be read, their probabilities float32 [N, K], and what is wrong with the others."""
    from jaxmoust.data.source import from_arrays
    from jaxmoust.jobs.parts.streams import evaluation_stream, plain_form
    from jaxmoust.runtime.parallel import Machine
    from jaxmoust.train.classify import Classify
    from jaxmoust.train.loop import rows_of, variables_of

    machine, class_names = Machine.local(), one.result["class_names"]
    variables = machine.replicate(variables_of(one.state))
    config = {"eval": {"batch_size": 64 * len(machine.local_devices)}}
    names: list[str] = []
    parts, faults = [np.zeros((0, len(class_names)), np.float32)], list[str]()
    for read, images, wrong in _decoded(files, one.form.transform):
        faults += wrong
        if read:
            source = from_arrays(images, np.zeros(len(images), np.int32), class_names, "predict")
            data = evaluation_stream(source, plain_form(one.form.shape), config, machine)
            parts.append(rows_of(Classify.probabilities, one.task, variables, data, machine)["probabilities"])
            names += read
    return names, np.concatenate(parts), faults


def _decoded(files: "FileImages", transform: Any) -> Iterator[tuple[list[str], np.ndarray, list[str]]]:
    """Images as the classifier sees them, a chunk at a time: (names, uint8 [n, H, W, C], what is wrong with others)."""
    from concurrent.futures import ThreadPoolExecutor

    def decode(i: int) -> Any:
        try:
            return transform.map(files.encoded(i))
        except (ValueError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor() as threads:
        for start in range(0, len(files), CHUNK_IMAGES):
            chunk = range(start, min(start + CHUNK_IMAGES, len(files)))
            found = list(zip([files.file(i) for i in chunk], threads.map(decode, chunk), strict=True))
            whole = [(name, pixels) for name, pixels in found if not isinstance(pixels, str)]
            faults = [fault for _, fault in found if isinstance(fault, str)]
            yield [name for name, _ in whole], np.stack([x for _, x in whole]) if whole else np.zeros(0), faults


def csv_text(names: Sequence[str], probabilities: np.ndarray, class_names: Sequence[str], top: int) -> str:
    """The table: a row for each file, its classes from the most probable on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ["", *(f"_{k}" for k in range(2, top + 1))]
    writer.writerow(["file", *(column + end for end in ends for column in ("label", "probability"))])
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    for name, of_image, classes in zip(names, probabilities, order, strict=True):
        writer.writerow([name, *(cell for k in classes for cell in (class_names[k], f"{of_image[k]:.6f}"))])
    return visible(text.getvalue())
