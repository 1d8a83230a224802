"""What a synthetic set is: everything that its writers and readers must agree on, and nothing of files."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxmoust.data.samplers.permutation import make_key, shuffled

MOST_IMAGES = 10**8  # more than a day of writing at a thousand a second; labels and indices of all are held at once


@dataclass(frozen=True)
class SyntheticSpec:
    """What a synthetic set is; everything that two writers of one folder must agree on.

    Image j of the set has label j % K and index j // K: the index-th image of its class, which is what a
    generator's key is made of. A set with unequal classes is ordered the same way, passing over the
    classes that are used up.

    Attributes:
        name: of the TFDS data set: lower case letters, digits and _, beginning with a letter.
        class_names: K names.
        shape: (H, W, C) of every image, C 1 or 3.
        num_images: N, of all classes together.
        shard_images: images a shard, the last one excepted.
        seed: the generator's.
        generator: digest of the generator that made the images.
        guidance: 1.0 is off.
        steps: sampling steps.
        prompts: one for each class, by class name or in the order of class_names; () for none.
        created_by: the configuration of the job, as JSON can hold it.
        class_counts: images of each class, or () for N / K each (up to one).
    """

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    num_images: int
    shard_images: int
    seed: int
    generator: str
    guidance: float = 1.0
    steps: int = 0
    prompts: tuple[str, ...] | Mapping[str, str] = ()
    created_by: Mapping[str, Any] = field(default_factory=dict, hash=False)
    class_counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raises: ValueError: a field out of range, or prompts that do not fit the classes."""
        plain = {"class_names": tuple(self.class_names), "guidance": float(self.guidance)}
        plain |= {name: tuple(map(int, getattr(self, name))) for name in ("shape", "class_counts")}
        plain |= {name: int(getattr(self, name)) for name in ("num_images", "shard_images", "seed", "steps")}
        for name, value in plain.items():  # what JSON gives back
            object.__setattr__(self, name, value)
        names, counts, prompts = self.class_names, self.class_counts, self.prompts
        if isinstance(prompts, Mapping):
            fits, prompts = set(prompts) == set(names), tuple(prompts.get(name, "") for name in names)
        else:
            fits = len(prompts) in (0, len(names))
        created_by = _as_json(self.created_by)
        for name, is_allowed, allowed in (
            ("name", re.fullmatch(r"[a-z][a-z0-9_]*", self.name), "lower case letters, digits and _, a letter first"),
            ("class_names", names and len(set(names)) == len(names), "one unique name for each class"),
            ("class_names", _lines(names) == list(names), "names of one line without space at their ends"),
            ("shape", self.shape[2:] in ((1,), (3,)) and min(self.shape) > 0, "(height, width, 1 or 3)"),
            ("num_images", 1 <= self.num_images <= MOST_IMAGES, f"1 to {MOST_IMAGES:,}"),
            ("shard_images", self.shard_images >= 1, "1 and up"),
            ("seed", -(2**63) <= self.seed < 2**63, "a 64-bit integer"),
            (
                "class_counts",
                not counts or (len(counts) == len(names) and min(counts) >= 0 and sum(counts) == self.num_images),
                f"one count for each class, {self.num_images} in all",
            ),
            ("prompts", fits, f"one prompt for each of the {len(names)} classes {list(names)}, or ()"),
            ("created_by", created_by is not None, "what JSON can hold"),
        ):
            if not is_allowed:
                raise ValueError(f"Got {name}={getattr(self, name)!r}, expected {allowed}. Correct the set's spec.")
        object.__setattr__(self, "prompts", tuple(prompts))
        object.__setattr__(self, "created_by", created_by)

    @property
    def origin(self) -> str:
        """What an image is a function of, besides its class and index; "" for images that were not drawn by a job."""
        drawn = (self.generator, self.seed, self.created_by, self.shape, self.class_names)
        return json.dumps(drawn, sort_keys=True) if self.created_by else ""

    @property
    def num_shards(self) -> int:
        """How many shards the set has."""
        return -(-self.num_images // self.shard_images)

    def labels_and_indices(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels int32 and indices int64 of the images start <= j < stop."""
        num_classes = len(self.class_names)
        if not self.class_counts:
            j = np.arange(start, stop)
            return (j % num_classes).astype(np.int32), j // num_classes
        label, index = in_turn(self.class_counts)
        return label[start:stop], index[start:stop]

    def shard_bounds(self, shard: int) -> tuple[int, int]:
        """The images start <= j < stop of one shard."""
        if not 0 <= shard < self.num_shards:
            raise ValueError(f"Got shard {shard}, expected 0 to {self.num_shards - 1}. Correct the number.")
        return shard * self.shard_images, min((shard + 1) * self.shard_images, self.num_images)


def in_turn(class_counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels int32 [N] and indices int64 [N] of so many images of each class: each class in turn while it lasts."""
    label = np.repeat(np.arange(len(class_counts), dtype=np.int32), class_counts)
    index = np.concatenate([np.arange(count) for count in class_counts])
    order = np.lexsort((label, index))
    return label[order], index[order]


@dataclass(frozen=True)
class Descent:
    """From which real images synthetic ones start, how far back to noise, and what their labels then are.

    Args:
        strengths: of one set, in (0, 1]: each real image of a class is taken with the first, then with the next, ...
        translate: start from real images of other classes, in an order of the class's own, strengths in turn; the
            label is then the class by strength ** power and the real image's by the rest.
        power: of the strength; below 1, labels say more of the class than noise does.
        seed: of the order.
        kept: places of those real images from which alone synthetic ones start, ascending; None for all.
    Raises: ValueError: no strength, one out of range or twice, or a power that is not above 0.
    Source: Wang et al. 2024 (2403.19600), Sec. 4 (Diff-Mix), whose gamma the power is.
    """

    strengths: tuple[float, ...] = (1.0,)
    translate: bool = False
    power: float = 0.5
    seed: int = 0
    kept: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuses what makes no images."""
        levels = self.strengths
        if not levels or len(set(levels)) < len(levels) or not all(0 < level <= 1 for level in levels):
            raise ValueError(f"config.strengths {levels}: expected numbers above 0, up to 1, each once.")
        if not 0 < self.power < np.inf:
            raise ValueError(f"config.label_power {self.power}: expected a number above 0, such as 0.5.")

    def level_of(self, base_labels: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """The place of each image's strength among the strengths: int64 [N]; arguments as `parents_of`."""
        if self.translate:
            return np.asarray(indices) % len(self.strengths)
        counts = np.bincount(base_labels[self._kept(base_labels)], minlength=int(labels.max(initial=0)) + 1)
        return np.asarray(indices) // np.maximum(counts[labels], 1) % len(self.strengths)

    def parents(self, base_labels: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """The real image of each, as `parents_of` says, or of another class; -1 where there is none."""
        kept = self._kept(base_labels)
        if not self.translate:
            parents = parents_of(base_labels[kept], labels, indices)
            return np.where(parents < 0, -1, kept[parents])
        parents = np.full(len(labels), -1, np.int64)
        for c in np.unique(labels):
            mine, others = np.flatnonzero(labels == c), kept[base_labels[kept] != c]
            if others.size:
                parents[mine] = others[shuffled(indices[mine], others.size, make_key(self.seed, 13, int(c)))]
        return parents

    def _kept(self, base_labels: np.ndarray) -> np.ndarray:
        return np.arange(len(base_labels)) if self.kept is None else self.kept

    def columns(self, base_labels: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> dict[str, np.ndarray]:
        """What the record says of each image: parent and strength, and, translated, second and second_weight."""
        given = (base_labels, labels, indices)
        parent, strength = self.parents(*given), np.array(self.strengths)[self.level_of(*given)]
        found = {"parent": parent, "strength": strength.astype(np.float32)}
        if self.translate:
            found["second"] = base_labels[parent].astype(np.int64)
            found["second_weight"] = (1 - strength**self.power).astype(np.float32)
        return found


def hardest(labels: np.ndarray, scores: np.ndarray, part: float) -> np.ndarray:
    """Which images of each class have the lowest scores: so large a part of them, at least one.

    Args: labels: [N]. scores: [N]. part: above 0, up to 1; what is no whole number of images is one more.
    Returns: int64 [n], places in ascending order.
    """
    order = np.lexsort((scores, labels))
    counts = np.bincount(labels)
    rank = np.arange(labels.size) - (np.cumsum(counts) - counts)[labels[order]]
    return np.sort(order[rank < np.ceil(part * counts - 1e-9)[labels[order]]])


def parents_of(base_labels: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Which real image each synthetic one starts from: image i of a class from the (i mod n)-th of the class's n.

    Args: base_labels: [R] of the real images. labels, indices: [N] of the synthetic ones.
    Returns: int64 [N], places among the real images; -1 where the class has none.
    """
    order = np.argsort(base_labels, kind="stable")
    counts = np.bincount(base_labels, minlength=int(labels.max(initial=0)) + 1)
    count = counts[labels]
    place = (np.cumsum(counts) - counts)[labels] + np.asarray(indices) % np.maximum(count, 1)
    return np.where(count > 0, order[np.minimum(place, order.size - 1)], -1)


def shard_range(spec: SyntheticSpec, shard: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels int32 [n] and indices int64 [n] of the images that shard holds, in their order."""
    return spec.labels_and_indices(*spec.shard_bounds(shard))


def _lines(names: Sequence[str]) -> list[str]:
    """What TFDS reads of names that it wrote, one a line."""
    return [name.strip() for name in "\n".join(names).split("\n") if name.strip()]


def _as_json(value: Mapping[str, Any]) -> dict[str, Any] | None:
    """What JSON gives back of a mapping; None where it cannot hold it."""
    try:
        return json.loads(json.dumps(dict(value)))
    except (TypeError, ValueError):
        return None
