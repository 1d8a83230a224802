"""Which files of a user are images, and of which class: by folder, by a table, or by NVlabs' or CIFAKE's way.

Works on names alone (and the table's text): nothing is opened here. An image that no rule gives a class is refused
by name; what is no image, or not asked for, is listed.
"""

import functools
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from jaxmoust.data.checks import listed
from jaxmoust.data.image import formats
from jaxmoust.data.sources.archive import is_inside
from jaxmoust.data.sources.class_list import chosen_classes
from jaxmoust.data.sources.tables import read_table

# Formats that not every installation reads.
EXTRA = "files that an extra reads (pip install 'jaxmoust[heic]')"
_EXTRA_SUFFIXES = (".heic", ".heif", ".avif")
MOST_LINES_AN_IMAGE = 100  # of a table: a row each, with a prompt of some lines
DATASET_JSON = "dataset.json"  # where NVlabs' dataset_tool.py writes labels
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
        columns: what else a table says of each image: name -> n texts.
        skipped: the files that are left out because they cannot be read, with the reason.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    prompts: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def take(self, keys: Sequence[int]) -> "Labelled":
        """The images of these indices."""

        def of(column: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(column[k] for k in keys) if column else ()

        columns = {name: of(column) for name, column in self.columns.items()}
        names, labels, prompts = of(self.names), of(self.labels), of(self.prompts)
        return replace(self, names=names, labels=labels, prompts=prompts, columns=columns)


@functools.cache
def suffixes() -> tuple[str, ...]:
    """The suffixes of the images that are read here."""
    return tuple(suffix for of_format in formats().values() for suffix in of_format)


def is_image(name: str) -> bool:
    """Says whether a file is an image by its suffix."""
    return name.lower().endswith(suffixes())


def needs_extra(name: str) -> bool:
    """Says whether a file is an image by its suffix, of a format that is not read here."""
    return name.lower().endswith(_EXTRA_SUFFIXES) and not is_image(name)


def by_folder(names: Sequence[str], where: str, split: str = "", classes: Sequence[str] = ()) -> Labelled:
    """Takes the folder an image lies in for its class; classes are ordered by name, or as they are given.

    Args:
        names: relative names of files; ANYTHING/CLASS/IMAGE, or ANYTHING/SPLIT/CLASS/IMAGE with a split.
        where: what errors call the folder or archive.
        split: the name of the folder of class folders to use, where there are several; "" is the only one.
        classes: names of the classes to use, if not all.
    Raises: ValueError: no image, images in no class folder, class folders in several places, unknown classes, or
        folders that look like pieces of one set where no classes are given.
    """
    images = [PurePosixPath(name) for name in names if is_image(name)]
    if split:
        images = [image for image in images if image.parts[-3:-2] == (split,)]
    if not images:
        of_split, or_split = (f", split {split!r}", " or the split") if split else ("", "")
        raise ValueError(
            f"Got no image in {where}{of_split}, expected one folder a class, with images ({', '.join(suffixes())}). "
            f"Correct the path{or_split}."
        )
    if unlabelled := [repr(str(image)) for image in images if len(image.parts) < 2]:
        raise ValueError(
            f"Got images without a class in {where} ({listed(unlabelled)}), expected one folder a class. Sort them "
            f"into folders, or name their classes in a table (--labels=FILE.csv with the columns file and label)."
        )
    if len(places := sorted({str(image.parent.parent) for image in images})) > 1:
        fake = {"REAL", "FAKE"} == {image.parent.name for image in images}
        raise ValueError(
            f"Got class folders in several places of {where} ({listed(map(repr, places))}), expected one. Name it by "
            f"--split, or give its own path.{' For CIFAKE give --source=cifake_fake.' if fake else ''}"
        )
    counts = Counter(image.parent.name for image in images)
    if not classes:
        refuse_chunks(counts, where)
    class_names = chosen_classes(classes, sorted(counts), where)
    return _labelled(names, {str(image): image.parent.name for image in images}, class_names, {})


def by_table(names: Sequence[str], where: str, table: bytes, inside: str = "", classes: Sequence[str] = ()) -> Labelled:
    """Reads the classes of images from a table with columns for files and labels; see `tables.read_table`.

    Args:
        names: relative names of files.
        where: what errors call the folder or archive.
        table: the bytes of the table.
        inside: the folder that the table's file names may be relative to, instead of the whole.
        classes: names of the classes, in the order of their labels; by default those of the table, by name. Rows of
            other classes are passed over.
    Raises: ValueError: what is no such table; a file that stands twice, leads out of the folder, is not there or is
        no image; unknown classes.
    """
    rows, there = read_table(table, where, MOST_LINES_AN_IMAGE * max(len(names), 10)), set(names)

    def relative(file: str) -> str:
        if file in there and not inside:
            return file
        plain = posixpath.normpath(file.replace("\\", "/"))
        plain = plain.removeprefix(posixpath.join(posixpath.abspath(where), ""))
        return next((name for name in (posixpath.join(inside, plain), plain) if name in there), plain)

    files, paths = rows["file"], rows["file"].map(relative)
    for what, wrong, remedy in (
        ("files outside of it", ~paths.map(is_inside), "give names relative to it"),
        ("files twice", paths.duplicated(keep=False), "remove all rows but one"),
        ("files that are not there", ~paths.isin(there), "correct or remove the rows"),
        ("files that are no images", ~paths.map(is_image), f"expected {', '.join(suffixes())}"),
    ):
        if wrong.any():
            shown = listed(repr(f"{file} in line {line}") for line, file in files[wrong].items())
            raise ValueError(f"Got a table for {where} that names {what} ({shown}), expected none: {remedy}.")
    class_names = chosen_classes(classes, sorted(set(rows["label"])), where)
    prompts = dict(zip(paths, rows["prompt"], strict=True)) if "prompt" in rows else {}
    found = _labelled(names, dict(zip(paths, rows["label"], strict=True)), class_names, prompts)
    rows = rows.set_axis(paths).loc[list(found.names)].drop(columns=["file", "label", "prompt"], errors="ignore")
    return replace(found, columns={str(name): tuple(rows[name].tolist()) for name in rows})


def refuse_chunks(counts: Mapping[str, int], where: str) -> None:
    """Refuses folders that are named and filled as pieces of one set are: by long numbers, with as many images each.

    Args: counts: of each folder the number of its images.
    """
    names = sorted(counts)
    sizes = [counts[name] for name in names]
    is_numbered = len({*map(len, names)}) == 1 < len(names) and all(re.fullmatch(r"\d{3,}", name) for name in names)
    if is_numbered and len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0]:
        raise ValueError(
            f"Got the folders {listed(map(repr, names), 3)} in {where}, named and filled as the pieces of one set are "
            f"(of NVlabs' and EDM's tools, for instance), expected one folder a class: name the classes of the "
            f"images in a table (`jaxmoust data import --labels=FILE.csv`). Or, if each folder is a class, list them "
            f"in a text file and give that as --classes or data.classes."
        )


def by_dataset_json(content: Any, where: str) -> dict[str, list[str]]:
    """Reads the labels that NVlabs' tools keep beside images in chunk folders: the files of each class, by its number.

    Args: content: of the file, {"labels": [["00000/img00000000.png", 6], ...]}.
    Returns: {"0": files, ...} in the order of the numbers; {} for a file of another kind.
    Raises: ValueError: no labels in it, or what is no file's name with a number.
    Source: the format of stylegan3's and edm's dataset_tool.py.
    """
    if not isinstance(content, dict) or not isinstance(content.get("labels", 0), list | None):
        return {}
    rows = content["labels"] or []
    wrong = [row for row in rows if not (isinstance(row, list) and [*map(type, row)] == [str, int] and row[1] >= 0)]
    wrong = wrong or [row for row in rows if not is_inside(row[0])]
    if wrong or not rows:
        raise ValueError(
            f"Got {DATASET_JSON} of {where} with {f'the label {wrong[0]!r:.80}' if wrong else 'no labels'}, expected "
            f"a file's name and a whole number each, ['00000/img00000000.png', 6]. Make it with labels, or name them "
            f"in a table (`jaxmoust data import --labels=FILE.csv`)."
        )
    files: dict[str, list[str]] = {str(c): [] for c in sorted({c for _, c in rows})}
    for name, c in rows:
        files[str(c)].append(name)
    if doubled := [name for name, count in Counter(name for name, _ in rows).items() if count > 1]:
        raise ValueError(f"Got {DATASET_JSON} of {where} with {listed(doubled)} more than once. Write it again.")
    return files


def by_listed_classes(
    names: Sequence[str], where: str, files: Mapping[str, Sequence[str]], classes: Sequence[str] = ()
) -> Labelled:
    """Takes the classes that `by_dataset_json` reads. Raises: ValueError: a file that is not there, unknown classes."""
    if missing := sorted({name for of_class in files.values() for name in of_class} - set(names)):
        raise ValueError(f"Got {DATASET_JSON} of {where} with {listed(missing)}, which are not there. Put them back.")
    class_names = chosen_classes(classes, tuple(files), where)
    return _labelled(names, {name: c for c, of_class in files.items() for name in of_class}, class_names, {})


def by_cifake_name(names: Sequence[str], where: str, split: str, part: str) -> Labelled:
    """Takes the class from a file's name, as CIFAKE keeps it: "0 (2).jpg" is of class 2, "0.jpg" of class 1.

    Args:
        names: relative names of files; ANYTHING/SPLIT/PART/IMAGE.
        where: what errors call the folder or archive.
        split: "train" or "test".
        part: "REAL" (CIFAR-10's own images) or "FAKE" (Stable Diffusion 1.4's).
    Raises: ValueError: no such image, or one whose name does not contain its class.
    Source: Bird and Lotfi 2023 (2303.14126); the numbers 1 to 10 are CIFAR-10's classes in their order.
    """
    images = [name for name in names if is_image(name) and PurePosixPath(name).parts[-3:-1] == (split, part)]
    if not images:
        raise ValueError(
            f"Got no image in {split}/{part} of {where}, expected CIFAKE as it was published (train and test, each "
            f"with REAL and FAKE). Correct the path."
        )
    labels, unlabelled = {}, []
    for name in images:
        match = re.fullmatch(r"\d+(?: \(([1-9]|10)\))?", PurePosixPath(name).stem)
        if match:
            labels[name] = CIFAR10_CLASSES[int(match[1] or 1) - 1]
        else:
            unlabelled.append(repr(name))
    if unlabelled:
        raise ValueError(
            f"Got images in {where} whose names do not tell their class ({listed(unlabelled)}), expected CIFAKE's: "
            "a number, then a class from 1 to 10 in parentheses, or none for class 1. Remove or rename them."
        )
    return _labelled(names, labels, CIFAR10_CLASSES, {})


def _labelled(
    names: Sequence[str], classes: Mapping[str, str], class_names: tuple[str, ...], prompts: Mapping[str, str]
) -> Labelled:
    """Numbers the classes of files; files of other classes, or of none, are passed over."""
    number = {name: c for c, name in enumerate(class_names)}
    labels = {file: number[name] for file, name in classes.items() if name in number}
    texts = tuple(prompts.get(file, "") for file in labels)
    passed_over = tuple(name for name in names if name not in labels)
    return Labelled(tuple(labels), tuple(labels.values()), class_names, texts if any(texts) else (), passed_over)
