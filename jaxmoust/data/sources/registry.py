"""The sources there are, by name: built-in sets here, the others in files of their own.

Each maker checks what it finds and returns a `Source`; what a source can do is in source.py.
"""

import functools
import gzip
import itertools
import logging
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from jaxmoust.data.checks import check_choice, listed, meant
from jaxmoust.data.near_duplicates import Look
from jaxmoust.data.samplers.permutation import make_key, shuffled
from jaxmoust.data.source import Source, from_arrays
from jaxmoust.data.sources.archive_source import cifake
from jaxmoust.data.sources.class_list import read_class_list, select_classes
from jaxmoust.data.sources.hugging_face import hugging_face
from jaxmoust.data.sources.image_folder import AS_THEY_ARE, Rules, image_folder, open_folder
from jaxmoust.data.sources.leaks import parted
from jaxmoust.data.sources.medmnist import medmnist
from jaxmoust.data.sources.tfds import tfds_source
from jaxmoust.runtime.paths import MAX_RATIO, SMALL_BYTES, check_plain

_LOG = logging.getLogger(__name__)
_DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
_FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def digits(split: str) -> Source:
    """The 8 x 8 grey digits of scikit-learn: train holds 100 images of each class, test the other 797.

    The split is fixed. Pixel values 0 to 16 are scaled to 0 to 255.
    Source: Alpaydin and Kaynak 1998, Optical recognition of handwritten digits, UCI; CC BY 4.0.
    """
    check_choice("split", split, ("train", "test"), " of digits")
    # The file of scikit-learn's load_digits, whose import takes longer than all else that planning a study imports.
    sklearn = find_spec("sklearn")
    assert sklearn and sklearn.origin
    data = np.loadtxt(Path(sklearn.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    labels = data[:, -1].astype(np.int32)
    images = np.rint(data[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    order = shuffled(np.arange(labels.size), labels.size, make_key(0x646967697473))
    train = np.sort(np.concatenate([order[labels[order] == c][:100] for c in range(10)]))
    keys = train if split == "train" else np.setdiff1d(np.arange(labels.size), train)
    return from_arrays(images[keys], labels[keys], [str(c) for c in range(10)], f"digits/{split}")


def read_idx(path: Path) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, gzipped or not: uint8 of the shape it announces.

    Of a packed file no more is unpacked than its header announces, and that is compared with its size before.

    Raises: ValueError: another kind of file, or one whose length does not fit its header.
    Source: the format of the MNIST distribution (LeCun): 0, 0, type, rank, big-endian int32 sizes, data.
    """
    try:
        size = check_plain(path).st_size
        most = max(MAX_RATIO * size, SMALL_BYTES) if path.suffix == ".gz" else size
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4)
            rank = head[3] if head[:3] == b"\x00\x00\x08" and len(head) > 3 else 0
            shape = tuple(int(n) for n in np.frombuffer(file.read(4 * rank), ">i4"))
            length = math.prod(shape)
            data = file.read(length + 1) if 0 <= length <= most else b""
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(f"Got an unreadable file, {path}: {error}. Fetch it again.") from error
    if not rank or len(shape) != rank or min(shape) < 0 or len(data) != length:
        raise ValueError(f"Got {size} bytes that are no whole IDX file of unsigned bytes, {path}. Fetch it again.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def fashion_mnist(split: str, path: str = "") -> Source:
    """Fashion-MNIST from its IDX files: 28 x 28 grey, 60,000 images to train and 10,000 to test.

    Args:
        split: "train" or "test".
        path: the folder of the four files (.gz or not); by default where Debian's package puts them.
    Source: Xiao, Rasul and Vollgraf 2017 (1708.07747); MIT licence.
    """
    check_choice("split", split, ("train", "test"), " of fashion_mnist")
    folder = Path(path).expanduser() if path else _DEBIAN_FASHION
    prefix = "train" if split == "train" else "t10k"
    files = []
    for kind in ("images-idx3", "labels-idx1"):
        names = [f"{prefix}-{kind}-ubyte{suffix}" for suffix in (".gz", "")]
        there = [folder / name for name in names if (folder / name).is_file()]
        if not there:
            raise ValueError(
                f"Got no Fashion-MNIST in {folder}: looked for {' or '.join(names)}. Install Debian's package "
                f"dataset-fashion-mnist, or put the four IDX files into a folder and give it as the path."
            )
        files.append(there[0])
    images, labels = map(read_idx, files)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        what = f"images {images.shape} and labels {labels.shape} in {folder}"
        raise ValueError(f"Got {what}, expected [N, H, W] and [N]. Fetch the files again.")
    return from_arrays(images, labels, _FASHION_CLASSES, f"fashion_mnist/{split}")


# The sources that a config can name; "tfds:NAME" and "hf:NAME" are open_source's own.
SOURCES: dict[str, Callable[..., Source]] = {
    "digits": lambda split, path: digits(split),
    "fashion_mnist": fashion_mnist,
    "folder": lambda split, path: image_folder(path, split),
    "medmnist": medmnist,
    "cifake_real": cifake,
    "cifake_fake": functools.partial(cifake, part="FAKE"),
}


# Which sources read a rule, of those that not all do.
_RULES_OF = {"labels": ("folder",), "group": ("folder", "hf:")}


def open_splits(
    name: str,
    splits: Sequence[str],
    path: str = "",
    classes: str = "",
    rules: Rules = AS_THEY_ARE,
    look: Look | None = None,
) -> list[Source]:
    """Opens several splits of a source, each file scanned once; see `open_source` and `open_folder`."""
    if name == "folder" and path:
        folder = open_folder(path, splits, classes=classes, rules=rules, look=look)
        return [folder.source(split) for split in splits]
    sources, notes = compared_splits(name, splits, path, classes, rules, look)
    for note in notes:
        _LOG.warning("%s: %s", name, note)
    return sources


def compared_splits(
    name: str, splits: Sequence[str], path: str, classes: str, rules: Rules, look: Look | None = None
) -> tuple[list[Source], tuple[str, ...]]:
    """Opens several splits of a source that is no folder: (the splits, what is to be said of copies among them)."""
    sources = [open_source(name, split, path, classes, rules, look) for split in splits]
    for (a, one), (b, other) in itertools.combinations(zip(splits, sources, strict=True), 2):
        if (
            one.groups is not None
            and other.groups is not None
            and (both := np.intersect1d(one.groups, other.groups).size)
        ):
            raise ValueError(
                f"Got {both:,} groups of data.group {rules.group!r} in both {a} and {b} of {name}, expected one side. "
                "Put each into one split, name another column, or leave data.group out."
            )
    notes: tuple[str, ...] = ()
    num_skipped = sum(source.num_skipped for source in sources)
    sources = [replace(source, num_skipped=num_skipped) for source in sources]
    # Others are divided by who published them, and compared where that is asked for.
    if name.startswith(("hf:", "tfds:")) or look or rules.near_duplicates == "together":
        sources, notes = parted(sources, splits, rules.near_duplicates, look)
        for split, source in zip(splits, sources, strict=True):
            _check_classes(source, split)
    return sources, notes


def _check_classes(source: Source, split: str) -> None:
    """Refuses a split without an image of a class."""
    if (empty := np.flatnonzero(source.class_counts() == 0)).size:
        names = listed([repr(source.class_names[c]) for c in empty])
        raise ValueError(
            f"Got no image of {names} for {split} in {source.name}, expected at least one a class and split (a class "
            "that is divided here needs two). Add images, or list the other classes in data.classes=FILE.txt."
        )


def _check_rules(name: str, rules: Rules) -> None:
    """Refuses rules that say how the classes or the splits come about, of a source that has its own.

    How files are read (background, value_range, on_bad) is no matter of a source without files, but of the synthetic
    sets beside it.
    """
    for field, readers in _RULES_OF.items():
        if (value := getattr(rules, field)) and not name.startswith(readers):
            allowed = " or ".join(f"{reader}NAME" if reader == "hf:" else reader for reader in readers)
            raise ValueError(
                f"Got data.{field} {value!r} for source {name!r}, which reads none; {allowed} does. Leave it out."
            )


def open_source(
    name: str, split: str, path: str = "", classes: str = "", rules: Rules = AS_THEY_ARE, look: Look | None = None
) -> Source:
    """Opens a source by its name.

    Args:
        name: one of `SOURCES`, "tfds:NAME" or "hf:NAME".
        split: "train" or "test"; for TFDS, any split it understands; of MedMNIST also "val" and "train+val".
        path: what the source needs: a folder of images or IDX files, a file, or TFDS's data_dir.
        classes: a text file that names the classes to use, one a line, in the order of their labels; by default
            all of them, as the source orders them.
        rules: how the files of a folder are read and divided.
        look: finds more images that look alike, see `open_folder`.
    Raises: ValueError: an unknown name, or whatever the source finds wrong.
    """
    if name == "folder":
        if not path:
            raise ValueError("Got source 'folder' without a path. Give the folder of images, data.path=DIR.")
        # looks into no other folder than the named ones
        return open_folder(path, (split,), classes=classes, rules=rules, look=look).source(split)
    if name == "digits" and path:
        raise ValueError(
            f"Got the path {path!r} for source 'digits', which is built in and reads none. Set data.source=folder for "
            "a folder of images, or leave the path out."
        )
    _check_rules(name, rules)
    if name.startswith("hf:"):
        source = hugging_face(name.removeprefix("hf:"), split, path, rules, look)
    elif name.startswith("tfds:"):
        source = tfds_source(name.removeprefix("tfds:"), split, path)
    elif name in SOURCES:
        read = {"reading": rules.reading, "on_bad": rules.on_bad} if name.startswith("cifake_") else {}
        source = SOURCES[name](split, path, **read)
    else:
        allowed = f"{', '.join(SOURCES)}, hf:NAME and tfds:NAME: choose one.{meant(name, SOURCES)}"
        raise ValueError(f"Got source {name!r}, expected {allowed}")
    source = select_classes(source, read_class_list(classes)) if classes else source
    if name.startswith("hf:"):  # of a set of TFDS a split may be a small part
        _check_classes(source, split)
    return source
