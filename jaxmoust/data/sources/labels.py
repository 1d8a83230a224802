"""Which of somebody else's files are images, and of which class: by folder, by a CSV table, or by CIFAKE's names.

Works on names alone (and the table's text): nothing is opened here. An image that no rule gives a class is refused
by name; what is no image, or not asked for, is listed.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from jaxmoust.data.sources.archive import is_inside
from jaxmoust.data.sources.class_list import check_known
from jaxmoust.data.sources.image_folder import SUFFIXES

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Labelled:
    """Images with their classes.

    Attributes:
        names: of the files, n of them.
        labels: n numbers of classes.
        class_names: K names.
        prompts: n texts, or () where none are known.
        passed_over: the files that are not among the images.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    prompts: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()


def is_image(name: str) -> bool:
    """Says whether a file is an image by its suffix."""
    return name.lower().endswith(SUFFIXES)


def by_folder(names: Sequence[str], where: str, split: str = "", classes: Sequence[str] = ()) -> Labelled:
    """Takes the folder an image lies in for its class; classes are ordered by name, or as they are given.

    Args:
        names: relative names of files; ANYTHING/CLASS/IMAGE, or ANYTHING/SPLIT/CLASS/IMAGE with a split.
        where: what errors call the folder or archive.
        split: the name of the folder of class folders to use, where there are several; "" is the only one.
        classes: names of the classes to use, if not all.
    Raises: ValueError: no image, images in no class folder, class folders in several places, or unknown classes.
    """
    images = [PurePosixPath(name) for name in names if is_image(name)]
    if split:
        images = [image for image in images if image.parts[-3:-2] == (split,)]
    if not images:
        raise ValueError(
            f"Got no image in {where}{f', split {split!r}' if split else ''}, allowed is one folder a class, with "
            f"images ({', '.join(SUFFIXES)}): correct the path{' or the split' if split else ''}."
        )
    if unlabelled := [str(image) for image in images if len(image.parts) < 2]:
        raise ValueError(
            f"Got images without a class in {where} ({some(unlabelled)}), allowed is one folder a class: sort them "
            f"into folders, or name their classes in a table (--labels=FILE.csv with the columns file and label)."
        )
    if len(places := sorted({str(image.parent.parent) for image in images})) > 1:
        fake = {"REAL", "FAKE"} == {image.parent.name for image in images}
        raise ValueError(
            f"Got class folders in several places of {where} ({some(places)}), allowed is one: name it by --split, or "
            f"give its own path.{' For CIFAKE give --source=cifake_fake.' if fake else ''}"
        )
    present = sorted({image.parent.name for image in images})
    check_known(classes, present, where)
    class_names = tuple(classes or present)
    number = {name: c for c, name in enumerate(class_names)}
    chosen = [(str(image), number[image.parent.name]) for image in images if image.parent.name in number]
    kept = tuple(name for name, _ in chosen)
    return Labelled(kept, tuple(c for _, c in chosen), class_names, (), _others(names, kept))


def by_table(names: Sequence[str], where: str, table: str, inside: str = "", classes: Sequence[str] = ()) -> Labelled:
    """Reads the classes of images from a CSV table with the columns file, label and, if it likes, prompt.

    Args:
        names: relative names of files.
        where: what errors call the folder or archive.
        table: the table's text, its first line naming the columns.
        inside: the folder that the table's file names are relative to.
        classes: names of the classes, in the order of their labels; by default those of the table, by name. Rows of
            other classes are passed over.
    Raises: ValueError: other columns, a row without a file or a label, a file that stands twice, leads out of the
        folder, is not there or is no image; no row; unknown classes.
    """
    rows = _rows(table, where)
    known, seen = set(names), Counter(file for _, file, _, _ in rows)

    def refuse(what: str, wrong: Callable[[str], bool], remedy: str) -> None:
        if found := [f"{file} in line {line}" for line, file, _, _ in rows if wrong(file)]:
            raise ValueError(f"Got a table for {where} that names {what} ({some(found)}), allowed is none: {remedy}.")

    refuse("files outside of it", lambda file: not is_inside(file), "give names relative to it")
    paths = {file: str(PurePosixPath(inside) / file) for file in seen}
    refuse("files twice", lambda file: seen[file] > 1, "remove all rows but one")
    refuse("files that are not there", lambda file: paths[file] not in known, "correct or remove the rows")
    refuse("files that are no images", lambda file: not is_image(file), f"allowed are {', '.join(SUFFIXES)}")
    present = sorted({label for _, _, label, _ in rows})
    check_known(classes, present, where)
    class_names = tuple(classes or present)
    number = {name: c for c, name in enumerate(class_names)}
    rows = [row for row in rows if row[2] in number]
    kept = tuple(paths[file] for _, file, _, _ in rows)
    prompts = tuple(prompt for _, _, _, prompt in rows)
    labels = tuple(number[label] for _, _, label, _ in rows)
    return Labelled(kept, labels, class_names, prompts if any(prompts) else (), _others(names, kept))


def by_cifake_name(names: Sequence[str], where: str, split: str, part: str) -> Labelled:
    """Takes the class from a file's name, as CIFAKE keeps it: "0 (2).jpg" is of class 2, "0.jpg" of class 1.

    Args:
        names: relative names of files; ANYTHING/SPLIT/PART/IMAGE.
        where: what errors call the folder or archive.
        split: "train" or "test".
        part: "REAL" (CIFAR-10's own images) or "FAKE" (Stable Diffusion 1.4's).
    Raises: ValueError: no such image, or one whose name does not tell its class.
    Source: Bird and Lotfi 2023 (2303.14126); the numbers 1 to 10 are CIFAR-10's classes in their order.
    """
    images = [name for name in names if is_image(name) and PurePosixPath(name).parts[-3:-1] == (split, part)]
    if not images:
        raise ValueError(
            f"Got no image in {split}/{part} of {where}, allowed is CIFAKE as it was published (train and test, each "
            f"with REAL and FAKE): correct the path."
        )
    found = {name: re.fullmatch(r"\d+(?: \(([1-9]|10)\))?", PurePosixPath(name).stem) for name in images}
    if unlabelled := [name for name, match in found.items() if not match]:
        raise ValueError(
            f"Got images in {where} whose names do not tell their class ({some(unlabelled)}), allowed are CIFAKE's: "
            f"a number, then a class from 1 to 10 in parentheses, or none for class 1. Remove or rename them."
        )
    labels = tuple(int(match[1] or 1) - 1 for match in found.values())
    return Labelled(tuple(images), labels, CIFAR10_CLASSES, (), _others(names, images))


def some(names: Sequence[str]) -> str:
    """Writes the first five names, and how many more there are."""
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _rows(table: str, where: str) -> list[tuple[int, str, str, str]]:
    """Reads (line, file, label, prompt) of each row."""
    try:
        reader = csv.DictReader(io.StringIO(table.removeprefix("\ufeff"), newline=""), strict=True)
        columns = list(reader.fieldnames or ())
        if sorted(columns) not in (["file", "label"], ["file", "label", "prompt"]):
            raise ValueError(
                f"Got a table for {where} with the columns {columns}, allowed are file, label and prompt (which may be "
                f"left out), named in the first line: correct them."
            )
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"Got a table for {where} that is no CSV: {error}. Correct it.") from error
    if not rows:
        raise ValueError(f"Got a table for {where} without a row, allowed is one for each image: fill it.")
    if ragged := [
        str(line) for line, row in rows if None in row or not row["file"] or not (row["label"] or "").strip()
    ]:
        raise ValueError(
            f"Got a table for {where} with rows that lack a file or a label, or have a field too many (lines "
            f"{', '.join(ragged[:5])}{'' if len(ragged) < 6 else ', ...'}), allowed are whole rows: correct them."
        )
    return [(line, row["file"], row["label"].strip(), row.get("prompt") or "") for line, row in rows]


def _others(names: Sequence[str], kept: Sequence[str]) -> tuple[str, ...]:
    chosen = set(kept)
    return tuple(name for name in names if name not in chosen)
