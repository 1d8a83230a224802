"""Folders of images, a subfolder a class: one's own pictures, or ImageNet with its 1.28 million.

Every header is read, so that a bad file stops a run at its start. What that gave is remembered of a large folder:
the next time its files are listed and none is opened, unless one of them has changed.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np

from jaxmoust.data.checks import check_choice, check_number
from jaxmoust.data.image import open_image
from jaxmoust.data.samplers.permutation import make_key, shuffled
from jaxmoust.data.source import Source, digest_bytes, digest_files
from jaxmoust.data.sources.archive import MAX_FILE_BYTES, FileImages, Members
from jaxmoust.data.sources.class_list import chosen_classes, read_class_list
from jaxmoust.data.sources.labels import DATASET_JSON, SUFFIXES, by_dataset_json, is_image, refuse_chunks
from jaxmoust.data.sources.scan_cache import file_facts, recall, remember, settled, stat_row
from jaxmoust.runtime.paths import check_plain, read_json

HELD_OUT = ("test", "validation", "val")  # names of the folder that the split "test" is read from

_LOG = logging.getLogger(__name__)
_REMEMBERED_FROM = 4096  # images; smaller folders are read again in less than a second
_SLOW_FROM = 200_000  # images whose headers take a minute or so, which a user should be told of
_NUM_THREADS = 16  # a folder on a network disk waits, not computes
_READ_AT_ONCE = 256

# Files: of each its name relative to the root, and what the file system says of it (see stat_row).
_Listing = list[tuple[str, tuple[int, int, int]]]
# What headers and bytes of a folder's images say: channels (1 when all are grey, else 3), the [H, W, channels] of all
# (None when they differ), and a content address of names, classes and bytes.
_Facts = tuple[int, list[int] | None, str]


def image_folder(path: str, split: str, test_fraction: float = 0.2, seed: int = 0, classes: str = "") -> Source:
    """A folder of images, a subfolder a class: PATH/train/CLASS and PATH/test/CLASS, or PATH/CLASS.

    The held-out folder of the first form may also be called validation or val (of several that hold class folders,
    the first of HELD_OUT). In the second form each class is split by itself: test takes test_fraction of it (at
    least one image, and never all), chosen by the seed. Files that are not images by their suffix are passed over.
    Where NVlabs' tools have left a dataset.json, the classes are the numbers in it, split as in the second form.

    Args:
        path: the folder.
        split: "train", "test", or "all" (the second form: no split; the first: refused).
        test_fraction: 0 < test_fraction < 1, for the second form.
        seed: of the split, for the second form.
        classes: a text file that names the class folders to use, one a line, in the order of their labels; by
            default all of them, by name.
    Raises: ValueError: no such folder, no classes, an empty class, an unreadable image, a class list with unknown
        names.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"Got the path {root}, allowed is an existing folder of class folders: correct the path.")
    listed = by_dataset_json(read_json(root / DATASET_JSON), str(root))
    held_out = _held_out(root) if (root / "train").is_dir() and not listed else None
    check_choice("split", split, ("train", "test") if held_out else ("train", "test", "all"), f" of {root}")
    if not held_out:
        check_number("test_fraction", test_fraction, "0 < test_fraction < 1", lambda part: 0.0 < part < 1.0)
    present = list(listed) or _class_folders(root / "train" if held_out else root)
    wanted = _wanted(root, held_out, present, classes)
    inside = "" if not held_out else "train" if split == "train" else held_out
    since_ns = time.time_ns()

    def list_class(name: str) -> _Listing:
        return _listed_files(root, listed[name]) if listed else _image_files(root, os.path.join(inside, name))

    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        parts = list(threads.map(list_class, wanted))
    if not (listed or classes):
        refuse_chunks({name: len(files) for name, files in zip(wanted, parts, strict=True)}, str(root / inside))
    if not held_out and split != "all":
        # Numbered among all classes, so that a class list does not move images between train and test.
        keys = [make_key(seed, 5, present.index(name)) for name in wanted]
        places = [root / name for name in wanted]
        parts = [_split_files(*part) for part in zip(parts, repeat(split), repeat(test_fraction), keys, places)]
    labels = np.repeat(np.arange(len(wanted), dtype=np.int32), [len(files) for files in parts])
    names = tuple(name for files in parts for name, _ in files)
    rows = np.array([row for files in parts for _, row in files], np.int64)
    part = f"{split}, {digest_bytes(labels.tobytes())}" if listed else split  # else names tell the labels
    channels, shape, digest = _facts(root, part, wanted, names, rows, since_ns)
    size = (shape[0], shape[1], shape[2]) if shape else None
    images = FileImages(Members(root, names), channels)
    return Source(f"{root.name}/{split}", labels, tuple(wanted), size, images, digest)


def _held_out(root: Path) -> str | None:
    """Names the folder beside train that holds the test images; None when there is none."""
    there = [name for name in HELD_OUT if (root / name).is_dir()]
    return next((name for name in there if _subfolders(root / name)), there[0] if there else None)


def _wanted(root: Path, held_out: str | None, present: list[str], classes: str) -> list[str]:
    """Names the classes that are used, in the order of their labels."""
    wanted = list(chosen_classes(read_class_list(classes) if classes else (), present, str(root)))
    if held_out:
        tested = _class_folders(root / held_out)
        if not (set(wanted) <= set(tested) if classes else wanted == tested):
            what = f"{wanted} in {root / 'train'} but {tested} in {root / held_out}"
            raise ValueError(f"Got the classes {what}, allowed is the same in both: rename or add folders.")
    return wanted


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _class_folders(folder: Path) -> list[str]:
    names = _subfolders(folder)
    if not names:
        raise ValueError(f"Got no class folder in {folder}, allowed is one subfolder a class: fill the folder.")
    return names


def _image_files(root: Path, inside: str) -> _Listing:
    """Lists the images of one folder by name; a million files are a few seconds, as no object is made for a file."""
    folder, prefix = os.path.join(root, inside), os.path.join(inside, "")
    files: _Listing = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_image(entry.name) and not entry.name.startswith("."):
                files.append((prefix + entry.name, _row(entry)))
    if not files:
        suffixes = ", ".join(SUFFIXES)
        raise ValueError(f"Got no image in {folder}, allowed is at least one a class ({suffixes}): fill or remove it.")
    return sorted(files)


def _listed_files(root: Path, names: Sequence[str]) -> _Listing:
    """Lists named files. Raises: ValueError: one that is not there."""
    return sorted((name, _row(root / name)) for name in names)


def _row(file: Path | os.DirEntry[str]) -> tuple[int, int, int]:
    try:
        return stat_row(check_plain(file, file.stat(), MAX_FILE_BYTES))
    except OSError as error:  # nothing there, or a link to nothing
        raise ValueError(f"Got an unreadable image, {os.fspath(file)}: {error}. Put it back, or remove it.") from error


def _split_files(files: _Listing, split: str, test_fraction: float, key: int, folder: Path) -> _Listing:
    if len(files) < 2:
        raise ValueError(f"Got one image in {folder}, allowed is two and up to split test images off: add images.")
    num_test = min(max(1, round(len(files) * test_fraction)), len(files) - 1)
    order = shuffled(np.arange(len(files)), len(files), key)
    return [files[i] for i in np.sort(order[:num_test] if split == "test" else order[num_test:])]


def _facts(root: Path, split: str, classes: list[str], names: Sequence[str], rows: np.ndarray, since_ns: int) -> _Facts:
    """Reads what the files say, or remembers it: a large folder is read once, and again when a file has changed."""
    if len(names) < _REMEMBERED_FROM:
        return _read_facts(root, split, classes, names)
    what = f"image folder {root.resolve()}, {split}, classes {digest_bytes(*map(str.encode, classes))}"
    unchanged = file_facts(names, rows)
    if (text := recall(what, unchanged)) is not None:
        return json.loads(text)
    if len(names) >= _SLOW_FROM:
        _LOG.warning("Reading the headers of %d images in %s, once; this takes minutes.", len(names), root)
    facts = _read_facts(root, split, classes, names)
    if settled(rows, since_ns):
        remember(what, unchanged, json.dumps(facts).encode())
    return facts


def _read_facts(root: Path, split: str, classes: list[str], names: Sequence[str]) -> _Facts:
    paths = [os.path.join(root, name) for name in names]
    sizes = _headers(paths)
    channels = max(size[2] for size in sizes)
    shapes = {(h, w, channels) for h, w, _ in sizes}
    digest = digest_files(paths, repr((classes, list(names), split, channels)).encode())
    return channels, list(shapes.pop()) if len(shapes) == 1 else None, digest


def _headers(paths: Sequence[str]) -> list[tuple[int, int, int]]:
    """Reads (H, W, C) of each file."""

    def headers(start: int) -> list[tuple[int, int, int]]:
        sizes = []
        for path in paths[start : start + _READ_AT_ONCE]:
            with open_image(path, path) as image:
                sizes.append((image.height, image.width, 1 if image.mode in ("1", "L", "LA") else 3))
        return sizes

    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        return [size for part in threads.map(headers, range(0, len(paths), _READ_AT_ONCE)) for size in part]
