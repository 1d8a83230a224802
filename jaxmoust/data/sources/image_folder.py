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
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jaxmoust.data.loading.transforms import Encoded, open_image
from jaxmoust.data.samplers.permutation import make_key, shuffled
from jaxmoust.data.source import Source, digest_bytes, digest_files
from jaxmoust.data.sources.class_list import check_known, read_class_list
from jaxmoust.data.sources.scan_cache import file_facts, recall, remember, settled, stat_row

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
HELD_OUT = ("test", "validation", "val")  # names of the folder that the split "test" is read from

_LOG = logging.getLogger(__name__)
_REMEMBERED_FROM = 4096  # images; smaller folders are read again in less than a second
_SLOW_FROM = 200_000  # images whose headers take a minute or so, which a user should be told of
_NUM_THREADS = 16  # a folder on a network disk waits, not computes
_READ_AT_ONCE = 256

# Files: their n names relative to the root, and what the file system says of them, int64 [n, 3] (see stat_row).
_Listing = tuple[list[str], np.ndarray]


@dataclass(frozen=True)
class _Files:
    """Image files, decoded when read, all with the same number of channels; named relative to root."""

    root: str
    names: tuple[str, ...]
    channels: int

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.encoded(i).decode()

    def encoded(self, i: int) -> Encoded:
        return Encoded.from_file(os.path.join(self.root, self.names[i]), self.channels)


@dataclass(frozen=True)
class _Facts:
    """What the headers and bytes of a folder's images say, together.

    Attributes:
        channels: 1 when all are grey, else 3.
        shape: (H, W, channels) of all, or None when they differ.
        digest: content address of names, classes and bytes.
    """

    channels: int
    shape: tuple[int, int, int] | None
    digest: str

    @classmethod
    def from_json(cls, text: bytes) -> "_Facts":
        fields = json.loads(text)
        return cls(fields["channels"], fields["shape"] and tuple(fields["shape"]), fields["digest"])


def image_folder(
    path: str,
    split: str,
    test_fraction: float = 0.2,
    seed: int = 0,
    shape: Sequence[int] | None = None,
    classes: str = "",
) -> Source:
    """A folder of images, a subfolder a class: PATH/train/CLASS and PATH/test/CLASS, or PATH/CLASS.

    The held-out folder of the first form may also be called validation or val (of several that hold class folders,
    the first of HELD_OUT). In the second form each class is split by itself: test takes test_fraction of it (at
    least one image, and never all), chosen by the seed. Files that are not images by their suffix are passed over.

    Args:
        path: the folder.
        split: "train", "test", or "all" (the second form: no split; the first: refused).
        test_fraction: 0 < test_fraction < 1, for the second form.
        seed: of the split, for the second form.
        shape: (H, W, C) that every image must have, if given.
        classes: a text file that names the class folders to use, one a line, in the order of their labels; by
            default all of them, by name.
    Raises: ValueError: no such folder, no classes, an empty class, an unreadable or wrongly shaped image, a class
        list with unknown names.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"Got the path {root}, allowed is an existing folder of class folders: correct the path.")
    held_out = _held_out(root) if (root / "train").is_dir() else None
    check_split(split, str(root), ("train", "test") if held_out else ("train", "test", "all"))
    if not held_out and not 0.0 < test_fraction < 1.0:
        raise ValueError(f"Got test_fraction={test_fraction}, allowed is 0 < test_fraction < 1: correct it.")
    present = _class_folders(root / "train" if held_out else root)
    wanted = _wanted(root, held_out, present, classes)
    inside = "" if not held_out else "train" if split == "train" else held_out
    since_ns = time.time_ns()

    def list_class(name: str) -> _Listing:
        files = _image_files(root, os.path.join(inside, name))
        if held_out or split == "all":
            return files
        # Numbered among all classes, so that a class list does not move images between train and test.
        return _split_files(files, split, test_fraction, make_key(seed, 5, present.index(name)), root / name)

    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        parts = list(threads.map(list_class, wanted))
    labels = np.repeat(np.arange(len(wanted), dtype=np.int32), [len(names) for names, _ in parts])
    names = tuple(name for part, _ in parts for name in part)
    facts = _facts(root, split, wanted, names, np.concatenate([rows for _, rows in parts]), since_ns)
    if shape is not None and facts.shape != tuple(shape):
        _refuse_shape(root, names, facts.channels, tuple(shape))
    records = _Files(str(root), names, facts.channels)
    return Source(f"{root.name}/{split}", labels, tuple(wanted), facts.shape, records, facts.digest)


def _held_out(root: Path) -> str | None:
    """Names the folder beside train that holds the test images; None when there is none."""
    there = [name for name in HELD_OUT if (root / name).is_dir()]
    return next((name for name in there if _subfolders(root / name)), there[0] if there else None)


def _wanted(root: Path, held_out: str | None, present: list[str], classes: str) -> list[str]:
    """Names the classes that are used, in the order of their labels."""
    wanted = list(read_class_list(classes)) if classes else present
    check_known(wanted, present, str(root))
    if held_out:
        tested = _class_folders(root / held_out)
        if not (set(wanted) <= set(tested) if classes else wanted == tested):
            raise ValueError(
                f"Got the classes {wanted} in {root / 'train'} but {tested} in {root / held_out}, allowed is the same "
                f"in both: rename or add folders."
            )
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
    names, rows = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
                try:
                    rows.append(stat_row(entry.stat()))
                except OSError as error:  # a link to nothing
                    raise ValueError(
                        f"Got an unreadable image, {entry.path}: {error}. Replace or remove it."
                    ) from error
                names.append(prefix + entry.name)
    if not names:
        raise ValueError(
            f"Got no image in {folder}, allowed is at least one a class ({', '.join(SUFFIXES)}): fill or remove "
            f"the folder."
        )
    order = sorted(range(len(names)), key=names.__getitem__)
    return [names[i] for i in order], np.array(rows, np.int64)[order]


def _split_files(files: _Listing, split: str, test_fraction: float, key: int, folder: Path) -> _Listing:
    names, rows = files
    if len(names) < 2:
        raise ValueError(
            f"Got one image in {folder}, allowed is two and up where train and test are split off: add images."
        )
    num_test = min(max(1, round(len(names) * test_fraction)), len(names) - 1)
    order = shuffled(np.arange(len(names)), len(names), key)
    chosen = np.sort(order[:num_test] if split == "test" else order[num_test:])
    return [names[i] for i in chosen], rows[chosen]


def _facts(root: Path, split: str, classes: list[str], names: Sequence[str], rows: np.ndarray, since_ns: int) -> _Facts:
    """Reads what the files say, or remembers it: a large folder is read once, and again when a file has changed."""
    if len(names) < _REMEMBERED_FROM:
        return _read_facts(root, split, classes, names)
    what = f"image folder {root.resolve()}, {split}, classes {digest_bytes(*map(str.encode, classes))}"
    unchanged = file_facts(names, rows)
    if (text := recall(what, unchanged)) is not None:
        return _Facts.from_json(text)
    if len(names) >= _SLOW_FROM:
        _LOG.warning("Reading the headers of %d images in %s, once; this takes minutes.", len(names), root)
    facts = _read_facts(root, split, classes, names)
    if settled(rows, since_ns):
        remember(what, unchanged, json.dumps(asdict(facts)).encode())
    return facts


def _read_facts(root: Path, split: str, classes: list[str], names: Sequence[str]) -> _Facts:
    paths = [os.path.join(root, name) for name in names]
    sizes = _headers(paths)
    channels = max(size[2] for size in sizes)
    shapes = {(h, w, channels) for h, w, _ in sizes}
    digest = digest_files(paths, repr((classes, list(names), split, channels)).encode())
    return _Facts(channels, shapes.pop() if len(shapes) == 1 else None, digest)


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


def _refuse_shape(root: Path, names: Sequence[str], channels: int, allowed: tuple[int, ...]) -> None:
    paths = [os.path.join(root, name) for name in names]
    for path, (height, width, depth) in zip(paths, _headers(paths), strict=True):
        if (height, width, channels) != allowed:
            raise ValueError(
                f"Got an image of shape {(height, width, depth)}, {path}, allowed is {allowed} (height, width, "
                f"channels): resize or remove it."
            )


def check_split(split: str, name: str, allowed: Sequence[str] = ("train", "test")) -> None:
    """Raises: ValueError: a split that the source of this name does not have."""
    if split not in allowed:
        raise ValueError(f"Got split {split!r} of {name}, allowed are {', '.join(allowed)}: choose one.")
