"""Synthetic sets out of images made elsewhere: a folder, a zip archive, CIFAKE, or any other source.

Every image is decoded once before anything is written, so that a bad one leaves no half of a set behind. What is not
known of an imported set (its seed, its guidance, its sampling steps) is named as unknown in its provenance.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxmoust.data.checks import check_number
from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.data.sources.archive import Members, open_members
from jaxmoust.data.sources.archive_source import encoded_source
from jaxmoust.data.sources.class_list import read_class_list
from jaxmoust.data.sources.labels import DATASET_JSON, Labelled, by_dataset_json, by_folder, by_listed_classes, by_table
from jaxmoust.data.sources.registry import open_source
from jaxmoust.data.synthetic.store import SyntheticSpec, finish, is_set, missing_shards, shard_range, write_shard
from jaxmoust.runtime.lock import lease
from jaxmoust.runtime.paths import parse_json, read_text, sweep

_SHARD_IMAGES = 1000
_SHARD_BYTES = 1 << 28  # decoded; a shard is held in memory
_FILES = ("", "folder")  # sources that are files to be labelled here
# What is known of the generator of a public set.
_GENERATORS = {"cifake_fake": "stable-diffusion-v1-4 (CIFAKE)"}


@dataclass(frozen=True)
class Imported:
    """What an import wrote, and what it left aside.

    Attributes:
        num_images: in the set.
        class_names: K names.
        passed_over: files that are not among the images: no images, not in the table, of other classes.
    """

    num_images: int
    class_names: tuple[str, ...]
    passed_over: tuple[str, ...] = ()


def import_images(
    origin: str | os.PathLike,
    path: str | os.PathLike,
    *,
    source: str = "",
    split: str = "",
    table: str = "",
    classes: str = "",
    name: str = "",
    generator: str = "",
    shard_images: int = 0,
    seed: int | None = None,
    guidance: float | None = None,
    steps: int | None = None,
) -> Imported:
    """Turns images made elsewhere into a synthetic set; the same call completes a set that is partly there.

    Args:
        origin: a folder or a zip archive; for another source, its path.
        path: the set's folder.
        source: "" for images in class folders or with a table; "cifake_fake", or any name of `sources.open_source`.
        split: the part of the source; of a folder with several groups of class folders, the group's name.
        table: a CSV file with the columns file, label and, if it likes, prompt: of the disk, or inside origin.
        classes: a text file with the names of the classes to use, in the order of their labels.
        name: of the TFDS data set; by default made of origin's name.
        generator: what made the images, as far as known.
        shard_images: by default 1,000, and fewer where they are large.
        seed: of the generator; None is unknown.
        guidance: of the generator; None is unknown.
        steps: sampling steps of the generator; None is unknown.
    Raises: ValueError: whatever the files, the table or the source are refused for; images of different sizes; a
        folder of another set. Nothing was written.
    """
    if guidance is not None:
        check_number("guidance", guidance, "a number; 1 is off")
    _check_apart(Path(path), os.fspath(origin))
    files = Labelled((), (), ())
    if source in _FILES:
        images, files = _open_files(origin, split, table, classes)
    elif table:
        raise ValueError(f"Got a table for the source {source!r}, allowed is one for a folder or archive only.")
    else:
        images = open_source(source, split or "train", os.fspath(origin), classes)
    if images.shape is None:
        raise ValueError(f"Got images of different sizes in {origin}, allowed is one size for a set: resize them.")
    generation = {"seed": seed, "guidance": guidance, "steps": steps}
    made_from = Path(origin).resolve().name if os.fspath(origin) else source
    created_by: dict[str, Any] = {
        "imported": images.digest,
        "source": source or "folder",
        "split": split,
        "from": made_from,
    }
    created_by["unknown"] = sorted(field for field, value in generation.items() if value is None)
    if files.prompts:
        created_by["prompts"] = digest_bytes(*(text.encode() for text in files.prompts))
    spec = SyntheticSpec(
        name=name or _set_name(source, made_from),
        class_names=images.class_names,
        shape=images.shape,
        num_images=len(images),
        shard_images=shard_images or min(_SHARD_IMAGES, max(1, _SHARD_BYTES // int(np.prod(images.shape)))),
        seed=seed or 0,
        generator=generator or _GENERATORS.get(source, "imported"),
        guidance=1.0 if guidance is None else guidance,
        steps=steps or 0,
        created_by=created_by,
        class_counts=tuple(images.class_counts().tolist()),
    )
    missing_shards(path, spec)  # refuses the folder of another set, before anything is written
    with lease(Path(path) / ".lock") as ours:
        if not ours:
            raise ValueError(f"{path} is in use by another process. Wait for it, or give another folder.")
        sweep(path)
        _write(images, files.prompts, path, spec)
        finish(path, spec)
    return Imported(spec.num_images, spec.class_names, files.passed_over)


def _check_apart(path: Path, origin: str) -> None:
    """Refuses to write a set among the images that it is made of, or among other files."""
    here, images = path.resolve(), Path(origin).expanduser().resolve()
    if origin and images.is_dir() and images in (here, *here.parents):
        raise ValueError(f"Got {path}, which is the folder of the images or inside it: give another folder.")
    others = here.is_dir() and any(not file.name.startswith(".") for file in here.iterdir())  # and no killed import's
    if others and not is_set(here):
        raise ValueError(f"Got {path}, which holds other files, allowed is a new or an empty folder: give another one.")


def _open_files(origin: str | os.PathLike, split: str, table: str, classes: str) -> tuple[Source, Labelled]:
    """Finds and decodes the images of a folder or an archive, by their folders or by a table."""
    members, wanted = open_members(origin), read_class_list(classes) if classes else ()
    if table and split:
        raise ValueError("Got a table and a split, allowed is one of the two: the table names its images.")
    if table:
        inside = str(PurePosixPath(table).parent) if table in members.names else ""
        files = by_table(members.names, str(origin), _table_text(members, table), inside, wanted)
    elif not split and (listed := _listed_classes(members)):
        files = by_listed_classes(members.names, str(origin), listed, wanted)
    else:
        files = by_folder(members.names, str(origin), split, wanted)
    return encoded_source(members, files, members.path.name), files


def _listed_classes(members: Members) -> dict[str, list[str]]:
    """The files of each class where NVlabs' tools have listed them."""
    if DATASET_JSON not in members.names:
        return {}
    return by_dataset_json(parse_json(members.read(DATASET_JSON), members.called(DATASET_JSON)), str(members.path))


def _table_text(members: Members, table: str) -> str:
    try:
        return members.read(table).decode() if table in members.names else read_text(Path(table).expanduser())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Got the table {table}, which cannot be read ({error}), allowed is a CSV file in UTF-8, on the disk or in "
            f"{members.path}: correct the path."
        ) from error


def _write(images: Source, texts: Sequence[str], path: str | os.PathLike, spec: SyntheticSpec) -> None:
    """Writes the shards that are missing, in the order that a spec gives to its images."""
    by_class = np.argsort(images.labels, kind="stable")
    first = np.cumsum(spec.class_counts) - spec.class_counts
    for shard in missing_shards(path, spec):
        labels, indices = shard_range(spec, shard)
        keys = by_class[first[labels] + indices]
        write_shard(path, spec, shard, images.images(keys), [texts[key] for key in keys] if texts else None)


def _set_name(source: str, made_from: str) -> str:
    text = "set_" + made_from.lower().removesuffix(".zip") if source in _FILES else source.lower()
    return re.sub(r"[^a-z0-9]+", "_", text).strip("_")
