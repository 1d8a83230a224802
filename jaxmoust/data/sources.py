"""The sources there are: digits, Fashion-MNIST, an image folder, any TFDS data set.

Each maker checks what it finds and returns a `Source`; what a source can do is in source.py, whose names are
importable from here too.
"""

import gzip
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.data.permutation import make_key, shuffled
from jaxmoust.data.source import Source, base_keys, digest_files, from_arrays
from jaxmoust.data.tfds_records import TfdsRecords
from jaxmoust.data.transforms import decode_image, open_image, to_channels

__all__ = [
    "SOURCES",
    "Source",
    "base_keys",
    "digits",
    "fashion_mnist",
    "from_arrays",
    "image_folder",
    "open_source",
    "prepare_tfds",
    "read_idx",
    "tfds_source",
]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
_FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


@dataclass(frozen=True)
class _Files:
    """Image files, decoded when read, all with the same number of channels."""

    paths: tuple[Path, ...]
    channels: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> np.ndarray:
        return to_channels(decode_image(str(self.paths[i]), str(self.paths[i])), self.channels)


def digits(split: str) -> Source:
    """The 8 x 8 grey digits of scikit-learn: train holds 100 images of each class, test the other 797.

    The split is fixed. Pixel values 0 to 16 are scaled to 0 to 255.
    Source: Alpaydin and Kaynak 1998, Optical recognition of handwritten digits, UCI; CC BY 4.0.
    """
    _check_split(split, "digits")
    from sklearn.datasets import load_digits  # a slow import that only this source needs

    data = load_digits()
    labels = data.target.astype(np.int32)
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    order = shuffled(np.arange(labels.size), labels.size, make_key(0x646967697473))
    train = np.sort(np.concatenate([order[labels[order] == c][:100] for c in range(10)]))
    keys = train if split == "train" else np.setdiff1d(np.arange(labels.size), train)
    return from_arrays(images[keys], labels[keys], [str(c) for c in range(10)], f"digits/{split}")


def read_idx(path: Path) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, gzipped or not: uint8 of the shape it announces.

    Raises: ValueError: another kind of file, or one whose length does not fit its header.
    Source: the format of the MNIST distribution (LeCun): 0, 0, type, rank, big-endian int32 sizes, data.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"Got an unreadable file, {path}: {error}. Fetch it again.") from error
    rank = data[3] if data[:3] == b"\x00\x00\x08" and len(data) > 3 else 0
    shape = tuple(int(n) for n in np.frombuffer(data[4 : 4 + 4 * rank], ">i4")) if rank else ()
    if not rank or len(data) != 4 + 4 * rank + int(np.prod(shape, dtype=np.int64)):
        raise ValueError(
            f"Got {len(data)} bytes that are not a whole IDX file of unsigned bytes, {path}: fetch it again."
        )
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def fashion_mnist(split: str, path: str = "") -> Source:
    """Fashion-MNIST from its IDX files: 28 x 28 grey, 60,000 images to train and 10,000 to test.

    Args:
        split: "train" or "test".
        path: the folder of the four files (.gz or not); by default where Debian's package puts them.
    Source: Xiao, Rasul and Vollgraf 2017 (1708.07747); MIT licence.
    """
    _check_split(split, "fashion_mnist")
    folder = Path(path).expanduser() if path else _DEBIAN_FASHION
    prefix = "train" if split == "train" else "t10k"
    found = {}
    for kind in ("images-idx3", "labels-idx1"):
        names = [f"{prefix}-{kind}-ubyte{suffix}" for suffix in (".gz", "")]
        found[kind] = next((folder / name for name in names if (folder / name).is_file()), None)
        if found[kind] is None:
            raise ValueError(
                f"Got no Fashion-MNIST in {folder}: looked for {' or '.join(names)}. Install Debian's package "
                f"dataset-fashion-mnist, or put the four IDX files into a folder and give it as the path."
            )
    images, labels = read_idx(found["images-idx3"]), read_idx(found["labels-idx1"])
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"Got images {images.shape} and labels {labels.shape} in {folder}, allowed is [N, H, W] and [N]: fetch "
            f"the files again."
        )
    return from_arrays(images, labels, _FASHION_CLASSES, f"fashion_mnist/{split}")


def image_folder(
    path: str, split: str, test_fraction: float = 0.2, seed: int = 0, shape: Sequence[int] | None = None
) -> Source:
    """A folder of images, a subfolder a class: PATH/train/CLASS and PATH/test/CLASS, or PATH/CLASS.

    In the second form each class is split by itself: test takes test_fraction of it (at least one image, and
    never all), chosen by the seed. Every file's header is read here, so that a bad file stops the run at its
    start; files that are not images by their suffix are passed over.

    Args:
        path: the folder.
        split: "train", "test", or "all" (the second form: no split; the first: refused).
        test_fraction: 0 < test_fraction < 1, for the second form.
        seed: of the split, for the second form.
        shape: (H, W, C) that every image must have, if given.
    Raises: ValueError: no such folder, no classes, an empty class, an unreadable or wrongly shaped image.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"Got the path {root}, allowed is an existing folder of class folders: correct the path.")
    divided = (root / "train").is_dir() and (root / "test").is_dir()
    _check_split(split, str(root), ("train", "test") if divided else ("train", "test", "all"))
    classes = _class_folders(root / "train" if divided else root)
    if divided and classes != _class_folders(root / "test"):
        raise ValueError(
            f"Got the classes {classes} in {root / 'train'} but {_class_folders(root / 'test')} in {root / 'test'}, "
            f"allowed is the same in both: rename or add folders."
        )
    if not divided and not 0.0 < test_fraction < 1.0:
        raise ValueError(f"Got test_fraction={test_fraction}, allowed is 0 < test_fraction < 1: correct it.")
    paths, labels = [], []
    for label, name in enumerate(classes):
        files = _image_files((root / split if divided else root) / name)
        if not divided and split != "all":
            files = _split_files(files, split, test_fraction, make_key(seed, 5, label), root / name)
        paths += files
        labels += [label] * len(files)
    sizes = _headers(paths)
    channels = max(size[2] for size in sizes)
    shapes = {(h, w, channels) for h, w, _ in sizes}
    if shape is not None and shapes != {tuple(shape)}:
        i = next(i for i, (h, w, _) in enumerate(sizes) if (h, w, channels) != tuple(shape))
        raise ValueError(
            f"Got an image of shape {sizes[i]}, {paths[i]}, allowed is {tuple(shape)} (height, width, channels): "
            f"resize or remove it."
        )
    names = [str(p.relative_to(root)) for p in paths]
    digest = digest_files(paths, repr((classes, names, split, channels)).encode())
    records = _Files(tuple(paths), channels)
    only = shapes.pop() if len(shapes) == 1 else None
    return Source(f"{root.name}/{split}", np.array(labels, np.int32), tuple(classes), only, records, digest)


def _class_folders(folder: Path) -> list[str]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise ValueError(f"Got no class folder in {folder}, allowed is one subfolder a class: fill the folder.")
    return names


def _image_files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
    if not files:
        raise ValueError(
            f"Got no image in {folder}, allowed is at least one a class ({', '.join(_SUFFIXES)}): fill or remove "
            f"the folder."
        )
    return files


def _split_files(files: list[Path], split: str, test_fraction: float, key: int, folder: Path) -> list[Path]:
    if len(files) < 2:
        raise ValueError(
            f"Got one image in {folder}, allowed is two and up where train and test are split off: add images."
        )
    num_test = min(max(1, round(len(files) * test_fraction)), len(files) - 1)
    order = shuffled(np.arange(len(files)), len(files), key)
    chosen = order[:num_test] if split == "test" else order[num_test:]
    return [files[i] for i in np.sort(chosen)]


def _headers(paths: list[Path]) -> list[tuple[int, int, int]]:
    """Reads (H, W, C) of each file; threads, because a folder on a network disk waits, not computes."""

    def header(path: Path) -> tuple[int, int, int]:
        with open_image(str(path), str(path)) as image:
            return image.height, image.width, 1 if image.mode in ("1", "L", "LA") else 3

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(header, paths))


def tfds_source(name: str, split: str, data_dir: str = "") -> Source:
    """Any prepared TFDS data set with one image and one class label, by random access (ArrayRecord).

    Args:
        name: "cifar10", "my_set/config:1.0.0", ...; or the folder of a prepared set (holding
            dataset_info.json), in which case data_dir is not used.
        split: any split TFDS understands, such as "train" or "train[:10%]".
        data_dir: where sets are kept; by default TFDS's own place.
    Raises: ValueError: not prepared as ArrayRecord, no such split, not one image and one class label.
    """
    import tensorflow_datasets as tfds  # a slow import that only TFDS sets need

    try:
        if (Path(name).expanduser() / "dataset_info.json").is_file():
            builder = tfds.builder_from_directory(str(Path(name).expanduser()))
        else:
            builder = tfds.builder(name, data_dir=data_dir or None, file_format="array_record")
        features = builder.info.features
        image = _only(features, tfds.features.Image, name)
        label = _only(features, tfds.features.ClassLabel, name)
        if features[image].shape[-1] not in (1, 3) or features[image].np_dtype != np.uint8:
            raise ValueError(
                f"its images are {features[image].np_dtype} {features[image].shape}, not uint8 [H, W, 1 or 3]"
            )
        records = TfdsRecords(builder, split, image)
    except (NotImplementedError, AssertionError, FileNotFoundError, ImportError, LookupError, ValueError) as error:
        raise ValueError(
            f"Got the TFDS set {name!r}, split {split!r}, data_dir {data_dir!r}, which cannot be read: {error}. "
            f"Allowed is a set prepared as ArrayRecord with one image and one class label: prepare it with "
            f"`jaxmoust data prepare` (download_and_prepare with file_format='array_record')."
        ) from error
    labels = records.column(label).astype(np.int32)
    shape = tuple(features[image].shape)
    paths = [Path(file.filename) for file in builder.info.splits[split].file_instructions]
    digest = digest_files(paths, str(split).encode(), repr(features[label].names).encode(), labels.tobytes())
    fixed = None if None in shape else shape
    return Source(f"{name}/{split}", labels, tuple(features[label].names), fixed, records, digest)


def prepare_tfds(name: str, data_dir: str = "") -> Path:
    """Downloads and prepares a data set of TFDS's catalogue as ArrayRecord; needs TensorFlow, unlike reading it.

    Args:
        name: as TFDS calls it, "cifar10" for instance.
        data_dir: where sets are kept; by default TFDS's own place.
    Returns: the folder of the prepared set; one that is there already is left as it is.
    Raises: ValueError: an unknown name, or no TensorFlow.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir or None, file_format="array_record")
        builder.download_and_prepare()
    except (ImportError, LookupError, ValueError) as error:
        raise ValueError(
            f"Got the TFDS set {name!r}, which cannot be prepared: {error}. Allowed is a name of TFDS's catalogue, "
            f"with TensorFlow installed: pip install 'jaxmoust[tfds]'."
        ) from error
    return Path(builder.data_dir)


def _only(features: Any, kind: type, name: str) -> str:
    found = [key for key, feature in features.items() if isinstance(feature, kind)]
    if len(found) != 1:
        raise ValueError(f"{name!r} has {len(found)} features of kind {kind.__name__}: {found or list(features)}")
    return found[0]


# The sources that a config can name; "tfds:NAME" is open_source's own.
SOURCES: dict[str, Callable[..., Source]] = {
    "digits": lambda split, path: digits(split),
    "fashion_mnist": fashion_mnist,
    "folder": lambda split, path: image_folder(path, split),
}


def open_source(name: str, split: str, path: str = "") -> Source:
    """Opens a source by its name.

    Args:
        name: one of `SOURCES`, or "tfds:NAME".
        split: "train" or "test"; for TFDS, any split it understands.
        path: the folder the source needs: images, IDX files, or TFDS's data_dir.
    Raises: ValueError: an unknown name, or whatever the source finds wrong.
    """
    if name.startswith("tfds:"):
        return tfds_source(name.removeprefix("tfds:"), split, path)
    if name not in SOURCES:
        raise ValueError(f"Got source {name!r}, allowed are {', '.join(SOURCES)} and tfds:NAME: choose one.")
    return SOURCES[name](split, path)


def _check_split(split: str, name: str, allowed: Sequence[str] = ("train", "test")) -> None:
    if split not in allowed:
        raise ValueError(f"Got split {split!r} of {name}, allowed are {', '.join(allowed)}: choose one.")
