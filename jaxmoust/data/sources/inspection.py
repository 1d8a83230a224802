"""The report on a data set before training: its splits, notes for the user, and what a study would refuse."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jaxmoust.data.near_duplicates import Look
from jaxmoust.data.source import Source
from jaxmoust.data.sources import image_folder, registry


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        splits: the images, by split.
        notes: sentences about what is passed over, or read in another way than it lies there.
        refused: what a study would refuse, with reasons.
    """

    SAID: ClassVar[Mapping[str, str]] = {"train": "to learn from", "test": "held out", "validation": "to select on"}

    splits: Mapping[str, Source] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def inspect(name: str, path: str, classes: str, rules: image_folder.Rules, look: Look | None = None) -> Inspection:
    """Opens the splits of a source, decodes every image, and refuses nothing.

    Args: as `registry.open_splits`.
    """
    logging.getLogger(image_folder.__name__).setLevel(logging.ERROR)  # its notes are among what is found
    try:
        if name == "folder" and path:
            found = _folder(path, classes, rules, look)
        else:
            found = _decoded(name, path, classes, rules, look)
    except (ValueError, OSError) as error:
        return Inspection(refused=(str(error),))
    names = next(iter(found.splits.values())).class_names
    alone = (f"There is the class {names[0]!r} alone: any classifier would always be right.",)
    return replace(found, refused=(*found.refused, *(alone if len(names) == 1 else ())))


def _folder(path: str, classes: str, rules: image_folder.Rules, look: Look | None) -> Inspection:
    skipping = replace(rules, on_bad="skip")
    folder = image_folder.open_folder(path, (), classes=classes, rules=skipping, look=look)
    splits = [split for split in Inspection.SAID if (folder.parts == split).any()]
    turned = int(folder.scan.changes[:, 0].sum())
    notes = [
        *folder.notes,
        *([f"Photographs that are turned upright, as their EXIF says: {turned:,}."] if turned else []),
    ]
    refused = folder.skipped if rules.on_bad == "refuse" else ()
    left_out = () if refused else folder.skipped
    return Inspection({s: folder.source(s) for s in splits}, (*notes, *(f"left out: {s}" for s in left_out)), refused)


def _decoded(name: str, path: str, classes: str, rules: image_folder.Rules, look: Look | None) -> Inspection:
    sources, notes = registry.compared_splits(name, ("train", "test"), path, classes, rules, look)
    splits = dict(zip(("train", "test"), sources, strict=True))
    refused = []

    def read(source: Source, i: int) -> None:
        try:
            source.read(i)
        except ValueError as error:
            refused.append(str(error))

    with ThreadPoolExecutor() as threads:
        for source in splits.values():
            list(threads.map(lambda i, source=source: read(source, i), range(len(source))))
    return Inspection(splits, notes, tuple(refused))
