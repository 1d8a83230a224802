"""Synthetic sets out of images made elsewhere: a folder, a zip archive, CIFAKE, another set, or any other source.

Every image is decoded once before anything is written, so that a bad one leaves no half of a set behind. What is not
known of an imported set (its seed, its guidance, its sampling steps) is unknown in its provenance. Images keep the
names of their files.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxmoust.data.checks import check_number, listed, meant
from jaxmoust.data.image import AS_IT_IS, Reading
from jaxmoust.data.source import Soft, Source, digest_bytes, soft_labels
from jaxmoust.data.sources.archive import Members, open_members, table_of
from jaxmoust.data.sources.archive_source import readable_source
from jaxmoust.data.sources.class_list import read_class_list, select_classes
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.data.sources.labels import DATASET_JSON, Labelled, by_dataset_json, by_folder, by_listed_classes, by_table
from jaxmoust.data.sources.registry import open_source
from jaxmoust.data.synthetic import store
from jaxmoust.data.synthetic.spec import SyntheticSpec, shard_range
from jaxmoust.data.synthetic.store import finish, is_set, missing_shards, write_shard
from jaxmoust.runtime.lock import lease
from jaxmoust.runtime.paths import parse_json, sweep

SOFT_LABEL = "soft_label"  # a column of the table of labels
_SHARD_IMAGES = 1000
_SHARD_BYTES = 1 << 28  # decoded; a shard is held in memory
_FILES = ("", "folder")  # sources that are files to be labelled here
# What is known of the generator of a public set.
_GENERATORS = {"cifake_fake": "stable-diffusion-v1-4 (CIFAKE)"}


@dataclass(frozen=True)
class Imported:
    """What an import wrote, and what it left out.

    Attributes:
        num_images: in the set.
        class_names: K names.
        passed_over: files that are not among the images: no images, not in the table, of other classes.
        skipped: files that cannot be read, with the reason, of on_bad="skip".
    """

    num_images: int
    class_names: tuple[str, ...]
    passed_over: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


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
    reading: Reading = AS_IT_IS,
    on_bad: Literal["refuse", "skip"] = "refuse",
) -> Imported:
    """Turns images made elsewhere into a synthetic set; the same call completes a set that is partly there.

    Args:
        origin: a folder or a zip archive; for another source, its path.
        path: the set's folder.
        source: "" for images in class folders or with a table; "cifake_fake", or any name of `sources.open_source`.
        split: the part of the source; of a folder with several groups of class folders, the group's name.
        table: a table of files, labels and, optionally, prompts, see sources/tables.py: on the disk, or inside origin.
        classes: a text file with the names of the classes to use, in the order of their labels.
        name: of the TFDS data set; by default made of origin's name.
        generator: what made the images, as far as known.
        shard_images: by default 1,000, and fewer where they are large.
        seed: of the generator; None is unknown.
        guidance: of the generator; None is unknown.
        steps: sampling steps of the generator; None is unknown.
        reading: how pixels of the files become 8 opaque bits.
        on_bad: "refuse": a file that cannot be read stops everything; "skip": goes on without it.
    Raises: ValueError: whatever the files, the table or the source are refused for; images of different sizes; a
        folder of another set. Nothing was written.
    """
    if guidance is not None:
        check_number("guidance", guidance, "a number; 1 is off")
    _check_apart(Path(path), os.fspath(origin))
    wanted = read_class_list(classes) if classes else ()
    images, files = open_images(origin, source, split, table, wanted, reading, on_bad)
    if images.shape is None:
        raise ValueError(
            f"Got images of different sizes in {origin}, expected one size for a set. Resize them, or name "
            f"the folder in an experiment (config.sets.NAME.path), which brings them to its size."
        )
    generation = {"seed": seed, "guidance": guidance, "steps": steps}
    spec = make_spec(images, files, origin, images.shape, source, split, name, generator, shard_images, **generation)
    missing_shards(path, spec)  # refuses the folder of another set, before anything is written
    with lease(Path(path) / ".lock") as ours:
        if not ours:
            raise ValueError(f"{path} is in use by another process. Wait for it, or give another folder.")
        sweep(path)
        write_images(images, files, path, spec)
    return Imported(spec.num_images, spec.class_names, files.passed_over, files.skipped)


def open_images(
    origin: str | os.PathLike,
    source: str = "",
    split: str = "",
    table: str = "",
    classes: Sequence[str] = (),
    reading: Reading = AS_IT_IS,
    on_bad: Literal["refuse", "skip"] = "refuse",
) -> tuple[Source, Labelled]:
    """Opens images made elsewhere, each decoded once.

    Args: as `import_images`; but classes: names. A folder may also hold a finished set.
    Returns: (the images, what they are called and with which prompts, as far as known, in the same order).
    Raises: ValueError: whatever the files, the table or the source are refused for.
    """
    if table and source not in _FILES:
        raise ValueError(f"Got a table for the source {source!r}, expected one for a folder or archive only.")
    if source in _FILES and not is_set(origin):
        return _open_files(origin, split, table, classes, reading, on_bad)
    if source in _FILES:
        images, files = store.open_synthetic(origin), store.read_labelled(origin)
    else:
        rules = Rules(reading.background, reading.value_range, on_bad)
        images = open_source(source, split or "train", os.fspath(origin), rules=rules)
        names = tuple(images.file(i) for i in range(len(images)))
        files = Labelled(names if all(names) else (), (), images.class_names)
    if not classes:
        return images, files
    chosen = select_classes(images, classes)
    kept = np.flatnonzero([images.class_names[label] in chosen.class_names for label in images.labels])
    return chosen, replace(files.take(kept.tolist()), labels=(), class_names=chosen.class_names)


def among(images: Source, class_names: Sequence[str], where: str) -> Source:
    """Numbers the classes of images as others do, of which they may have some only.

    Raises: ValueError: a class that the others have not.
    """
    if foreign := [name for name in images.class_names if name not in class_names]:
        raise ValueError(
            f"Got the classes {listed(map(repr, foreign))} in {where}, which the real images have not, expected "
            f"{listed(map(repr, class_names), 10)}, or some of them. Rename the folders, or name the classes to use "
            f"(classes=NAME,NAME).{meant(foreign[0], class_names)}"
        )
    number = np.array([class_names.index(name) for name in images.class_names], np.int32)
    digest = digest_bytes(b"among", images.digest.encode(), repr(tuple(class_names)).encode())
    soft = images.soft and images.soft.renumbered(number, where)
    given = (images.name, number[images.labels], tuple(class_names), images.shape, images.records, digest)
    return Source(*given, soft=soft)


def make_spec(
    images: Source,
    files: Labelled,
    origin: str | os.PathLike,
    shape: tuple[int, int, int],
    source: str = "",
    split: str = "",
    name: str = "",
    generator: str = "",
    shard_images: int = 0,
    **generation: Any,
) -> SyntheticSpec:
    """Describes the set that images made elsewhere become.

    Args: as `import_images`; shape: (H, W, C) that they are brought to. generation: its seed, guidance and steps; None
        where one is unknown.
    """
    made_from = Path(origin).resolve().name if os.fspath(origin) else source
    created_by: dict[str, Any] = {
        "imported": images.digest,
        "source": source or "folder",
        "split": split,
        "from": made_from,
        "unknown": sorted(field for field, value in generation.items() if value is None),
    }
    for what, texts in (("prompts", files.prompts), ("files", files.names)):
        if texts:
            created_by[what] = digest_bytes(*(text.encode(errors="surrogateescape") for text in texts))
    if images.soft:
        created_by[store.SOFT] = digest_bytes(images.soft.second.tobytes(), images.soft.weight.tobytes())
    if files.skipped:
        created_by["num_skipped"] = len(files.skipped)
    return SyntheticSpec(
        name=name or _set_name(source, made_from),
        class_names=images.class_names,
        shape=shape,
        num_images=len(images),
        shard_images=shard_images or min(_SHARD_IMAGES, max(1, _SHARD_BYTES // int(np.prod(shape)))),
        seed=generation["seed"] or 0,
        generator=generator or _GENERATORS.get(source, "imported"),
        guidance=1.0 if generation["guidance"] is None else generation["guidance"],
        steps=generation["steps"] or 0,
        created_by=created_by,
        class_counts=tuple(images.class_counts().tolist()),
    )


def write_images(images: Source, files: Labelled, path: str | os.PathLike, spec: SyntheticSpec) -> None:
    """Writes the shards that are missing, in the order that a spec gives to its images, and finishes the set.

    Images of other sizes are brought to the spec's as test images are: the central square, resized.
    """
    from jaxmoust.data.loading.transforms import Resize

    resize = Resize(spec.shape[0], spec.shape[2])
    by_class = np.argsort(images.labels, kind="stable")
    first = np.cumsum(spec.class_counts) - spec.class_counts
    label, index = spec.labels_and_indices(0, spec.num_images)

    def columns(keys: np.ndarray) -> dict[str, np.ndarray] | None:
        return {"second": images.soft.second[keys], "second_weight": images.soft.weight[keys]} if images.soft else None

    with ThreadPoolExecutor() as threads:
        for shard in missing_shards(path, spec):
            labels, indices = shard_range(spec, shard)
            keys = by_class[first[labels] + indices].tolist()
            texts, names = ([column[k] for k in keys] if column else None for column in (files.prompts, files.names))
            if images.shape == spec.shape:
                pixels = images.images(keys)
            else:
                pixels = np.stack([*threads.map(lambda key: resize.map(images.encoded(key) or images.read(key)), keys)])
            write_shard(path, spec, shard, pixels, texts, names, columns(np.array(keys)))
    finish(path, spec, columns=columns(by_class[first[label] + index]))


def _check_apart(path: Path, origin: str) -> None:
    """Refuses to write a set among the images that it is made of, or among other files."""
    here, images = path.resolve(), Path(origin).expanduser().resolve()
    if origin and images.is_dir() and images in (here, *here.parents):
        raise ValueError(f"Got {path}, which is the folder of the images or inside it. Give another folder.")
    others = here.is_dir() and any(not file.name.startswith(".") for file in here.iterdir())  # and no killed import's
    if others and not is_set(here):
        raise ValueError(f"Got {path}, which holds other files, expected a new or an empty folder. Give another one.")


def _open_files(
    origin: str | os.PathLike, split: str, table: str, wanted: Sequence[str], reading: Reading, on_bad: str
) -> tuple[Source, Labelled]:
    """Finds and decodes the images of a folder or an archive, by their folders or by a table."""
    members = open_members(origin)
    if table and split:
        raise ValueError("Got a table and a split, expected one of the two. The table names its images.")
    if table:
        files = by_table(members.names, str(members.path), *table_of(members, table), wanted)
    elif not split and (listed := _listed_classes(members)):
        files = by_listed_classes(members.names, str(origin), listed, wanted)
    else:
        files = by_folder(members.names, str(origin), split, wanted)
    remedy = ", or go on without them: on_bad='skip'"
    images, files = readable_source(members, files, members.path.name, reading, on_bad, remedy)
    return replace(images, soft=_soft(files, str(members.path))), files


def _soft(files: Labelled, where: str) -> Soft | None:
    """The soft labels of a table's column soft_label, each "cat=0.7,dog=0.3"; an empty one is the label's alone.

    Raises: ValueError: what is no such text, an unknown class, or as `soft_labels`.
    """
    texts, number = files.columns.get(SOFT_LABEL, ()), {name: c for c, name in enumerate(files.class_names)}
    if not texts:
        return None
    shares = np.zeros((len(texts), len(number)))
    for i, text in enumerate(texts):
        for pair in text.split(",") if text else (f"{files.class_names[files.labels[i]]}=1",):
            name, _, share = pair.rpartition("=")
            try:
                shares[i, number[name.strip()]] += float(share)
            except (KeyError, ValueError) as error:
                raise ValueError(
                    f"Got the soft label {text!r} of {files.names[i]} in {where}, expected classes with their shares, "
                    f"such as '{files.class_names[0]}=0.7,{files.class_names[-1]}=0.3'. Correct it."
                ) from error
    return soft_labels(shares, np.array(files.labels), where)


def _listed_classes(members: Members) -> dict[str, list[str]]:
    """The files of each class where NVlabs' tools have listed them."""
    if DATASET_JSON not in members.names:
        return {}
    return by_dataset_json(
        parse_json(members.read(DATASET_JSON), members.display_name(DATASET_JSON)), str(members.path)
    )


def _set_name(source: str, made_from: str) -> str:
    text = "set_" + made_from.lower().removesuffix(".zip") if source in _FILES else source.lower()
    return re.sub(r"[^a-z0-9]+", "_", text).strip("_")
