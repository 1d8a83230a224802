"""The interface of a data set.

A `Source` gives labels at once, any image by its index, and a content address. Everything is checked when it
is made, before any work starts. It knows nothing of where it came from (sources, synthetic), of mixing (pool),
order (samplers) or batches (loader).
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from jaxmoust.data.image import Encoded, EncodedImages, Selection
from jaxmoust.runtime.paths import check_plain

REAL = "real"  # the source of real images in a pool; any other is a synthetic set

_NO_TEXT = re.compile("[\n\r\ud800-\udfff]")  # a line's end, or what stands for a byte that is not UTF-8
_FULL_DIGEST_BYTES = 1 << 30  # about a second to hash; beyond it, sizes and both ends of each file stand in
_END_BYTES = 1 << 16
_MAX_ENDS = 4096  # files whose ends are read: of a million images that is seconds, not an hour


@dataclass(frozen=True, eq=False)
class Lineage:
    """Which real images synthetic ones were made from.

    Attributes:
        data: digest of the real images.
        parents: int64 [N], for each synthetic image its place among them.
        strengths: float32 [N], how far back to noise each parent went; None where nothing says so.
    """

    data: str
    parents: np.ndarray = field(repr=False)
    strengths: np.ndarray | None = field(default=None, repr=False)

    def take(self, keys: np.ndarray) -> "Lineage":
        """That of these images."""
        return Lineage(self.data, self.parents[keys], None if self.strengths is None else self.strengths[keys])


@dataclass(frozen=True, eq=False)
class Soft:
    """Soft labels of two classes: image i is of its label by 1 - weight[i], and of class second[i] by weight[i].

    Attributes:
        second: int32 [N], in [0, K).
        weight: float32 [N], 0 to 1.
    """

    second: np.ndarray = field(repr=False)
    weight: np.ndarray = field(repr=False)

    def take(self, keys: np.ndarray) -> "Soft":
        """Those of these images."""
        return Soft(self.second[keys], self.weight[keys])

    def renumbered(self, number: np.ndarray, name: str) -> "Soft":
        """With other numbers of the classes, [K], below 0 for one that is left out. Raises: ValueError: one is used."""
        second = number[self.second]
        if (lost := (second < 0) & (self.weight > 0)).any():
            raise ValueError(
                f"{lost.sum():,} soft labels of {name} name a class that is left out. Use that class, too."
            )
        return Soft(np.maximum(second, 0).astype(np.int32), self.weight)


def soft_labels(shares: np.ndarray, labels: np.ndarray, name: str) -> Soft:
    """Reads soft labels from each class's share.

    Args: shares: [N, K], of each image two classes at most, its label among them. name: what errors call the images.
    Raises: ValueError: shares below 0 or that do not sum to 1, more classes, or others than the label.
    """
    rows, shares = np.arange(len(labels)), np.asarray(shares, np.float64)
    wrong = ~(np.abs(shares.sum(1) - 1) <= 1e-3) | (shares < 0).any(1)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"Got soft labels of {name} that do not sum to 1, or are below 0, for {wrong.sum():,} images (image "
            f"{first}: {shares[first].sum():.4g}), expected each class's share, 0 to 1 and 1 in all. Correct them."
        )
    rest = shares.copy()
    rest[rows, labels] = 0
    second = rest.argmax(1)
    if (odd := (rest > 0).sum(1) > 1).any() or (odd := (shares[rows, labels] <= 0)).any():
        raise ValueError(
            f"Got soft labels of {name} of more than two classes, or without the image's label, for {odd.sum():,} "
            f"images (image {int(odd.argmax())}), expected its label and one class besides. Correct them."
        )
    return Soft(second.astype(np.int32), rest[rows, second].astype(np.float32))


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled images that can be read in any order.

    Attributes:
        name: what tables and errors call it.
        labels: int32 [N], in [0, K).
        class_names: K names.
        shape: (H, W, C) of every image, or None when they differ.
        records: the images; a uint8 array [N, H, W, C] when they are in memory.
        digest: content address of labels, class names and images.
        origin: of synthetic images, what drew them: sets of one origin hold the same images, as far as the shorter one
            goes. "" where nothing says so.
        num_skipped: of its files and classes, those that were left out because they cannot be used.
        lineage: of synthetic images that were made from real ones, from which; None where nothing says so.
        captions: what each image shows, N texts; None where nothing says so.
        soft: soft labels; None where each image is of its label alone.
    """

    name: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    shape: tuple[int, int, int] | None
    records: np.ndarray | EncodedImages = field(repr=False)
    digest: str
    origin: str = ""
    groups: np.ndarray | None = field(default=None, repr=False)
    num_skipped: int = 0
    lineage: Lineage | None = None
    captions: np.ndarray | None = field(default=None, repr=False)
    soft: Soft | None = None

    def __post_init__(self) -> None:
        """Raises: ValueError: no image, labels of another length or outside the classes, repeated classes."""
        labels = np.asarray(self.labels)
        if not len(self.records):
            raise ValueError(f"Got no image in {self.name!r}, expected at least one. Fill it or leave it out.")
        if labels.shape != (len(self.records),) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"Got labels of shape {labels.shape} and type {labels.dtype} for the {len(self.records)} images "
                f"of {self.name!r}, expected one integer an image. Correct the labels."
            )
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"Got class names {list(self.class_names)} in {self.name!r}. Make them unique.")
        if odd := [name for name in self.class_names if _NO_TEXT.search(name)]:
            raise ValueError(
                f"Got class names {odd[:5]!r} in {self.name!r}, expected names of one line in UTF-8. Rename the "
                f"folders or labels (`convmv` does it for folders of another encoding)."
            )
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
        if wrong.size:
            raise ValueError(
                f"Got label {labels[wrong[0]]} at image {wrong[0]} of {self.name!r} ({wrong.size} such), "
                f"expected 0 to {len(self.class_names) - 1}. Correct the labels or name every class."
            )
        labels = labels.astype(np.int32)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        """The number of images, N."""
        return len(self.records)

    def class_counts(self) -> np.ndarray:
        """Counts the images of each class: int64 [K]."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def read(self, i: int) -> np.ndarray:
        """Reads image i: uint8 [H, W, C]."""
        return self.records[int(i)]

    def encoded(self, i: int) -> Encoded | None:
        """Image i as its file holds it; None where it is in memory, decoded."""
        return None if isinstance(self.records, np.ndarray) else self.records.encoded(int(i))

    def file(self, i: int) -> str:
        """What the file of image i is called, below its folder; "" where it has no name."""
        return "" if isinstance(self.records, np.ndarray) else self.records.file(int(i))

    def images(self, keys: Sequence[int] | np.ndarray) -> np.ndarray:
        """Reads several images of one shape: uint8 [B, H, W, C]; one gather when they are in memory.

        Raises: ValueError: the images differ in shape.
        """
        if self.shape is None:
            raise ValueError(f"The images of {self.name!r} differ in size: read them one by one and resize them.")
        if isinstance(self.records, np.ndarray):
            return self.records[np.asarray(keys, np.int64)]
        return np.stack([self.read(i) for i in keys])

    def subset(self, keys: np.ndarray, name: str | None = None) -> "Source":
        """Keeps the images of these indices, in this order, as a source of its own."""
        keys = np.asarray(keys, np.int64)
        if keys.size and not (keys.min() >= 0 and keys.max() < len(self)):
            outside = f"{keys.min()} to {keys.max()} of {self.name!r}"
            raise ValueError(f"Got the images {outside}, expected 0 to {len(self) - 1}. Correct the indices.")
        records = self.records[keys] if isinstance(self.records, np.ndarray) else Selection(self.records, keys)
        digest = digest_bytes(b"subset", self.digest.encode(), keys.astype("<i8").tobytes())
        groups, captions = (None if of is None else of[keys] for of in (self.groups, self.captions))
        given = (name or self.name, self.labels[keys], self.class_names, self.shape, records, digest)
        lineage = self.lineage and self.lineage.take(keys)
        soft = self.soft and self.soft.take(keys)
        return Source(*given, self.origin, groups, self.num_skipped, lineage, captions, soft)

    @property
    def captions_digest(self) -> str:
        """A content address of the captions and of whose they are; "" where there are none."""
        texts = "\n".join(self.captions).encode() if self.captions is not None else b""
        return digest_bytes(self.labels.tobytes(), texts) if texts else ""

    def __repr__(self) -> str:
        """Says what it is without its arrays."""
        return (
            f"Source({self.name!r}, num_images={len(self)}, num_classes={len(self.class_names)}, "
            f"shape={self.shape}, digest={self.digest!r})"
        )


def digest_bytes(*parts: bytes | memoryview) -> str:
    """Makes a content address of byte strings; where one ends and the next begins counts too."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.hexdigest()[:32]


def digest_files(paths: Sequence[str | os.PathLike], *header: bytes) -> str:
    """Makes a content address of files: all bytes up to 1 GiB in total, beyond it sizes and both ends of each.

    Of more than 4,096 files of more than 1 GiB, the sizes of all count and the ends of every second, third, ...
    An address of another kind than the first begins with "ends-", so that nobody takes it for one.
    """
    sizes = [check_plain(path).st_size for path in paths]
    whole = sum(sizes) <= _FULL_DIGEST_BYTES
    hasher = hashlib.sha256(digest_bytes(*header, str(sizes).encode()).encode())
    step = 1 if whole else max(1, -(-len(sizes) // _MAX_ENDS))
    for path, size in zip(paths[::step], sizes[::step], strict=True):
        with open(path, "rb") as file:
            if whole:
                hasher.update(hashlib.file_digest(file, "sha256").digest())
            else:
                hasher.update(file.read(_END_BYTES))
                file.seek(max(0, size - _END_BYTES))
                hasher.update(file.read(_END_BYTES))
    return ("" if whole else "ends-") + hasher.hexdigest()[:32]


def from_arrays(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None = None, name: str = "arrays"
) -> Source:
    """Makes a source of images in memory.

    Args:
        images: uint8 [N, H, W, C], C 1 or 3; or [N, H, W], grey. Not copied: leave the array as it is.
        labels: integers [N] in [0, K).
        class_names: K names; by default "0", "1", ... up to the largest label.
        name: what tables and errors call it.
    Raises: ValueError: another type or shape, no image, labels outside the classes.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        raise ValueError(
            f"Got images of shape {images.shape} and type {images.dtype} for {name!r}, expected uint8 [N, H, W, C] "
            f"with C 1 or 3. Convert them (0 is black, 255 is white)."
        )
    if class_names is None:
        class_names = [str(c) for c in range(int(labels.max(initial=0)) + 1)]
    header = [repr((images.shape, list(class_names))).encode(), labels.astype("<i4").tobytes()]
    images = np.ascontiguousarray(images).view()
    images.setflags(write=False)
    digest = digest_bytes(*header, images.reshape(-1).data)
    return Source(name, labels, tuple(class_names), images.shape[1:], images, digest)
