"""The images of one job: base set, what is left of the training split, test set; and synthetic sets that join them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxmoust.data.near_duplicates import Look
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.permutation import make_key
from jaxmoust.data.source import REAL, Source
from jaxmoust.data.sources import registry
from jaxmoust.data.sources.captions import captioned
from jaxmoust.data.sources.image_folder import AS_THEY_ARE, Rules
from jaxmoust.data.splits.base_set import base_set
from jaxmoust.data.splits.held_out import held_out
from jaxmoust.data.synthetic.spec import MOST_IMAGES
from jaxmoust.data.synthetic.store import open_synthetic

MOST_PX = 1 << 14  # of a side that images are brought to; cameras' are smaller


@dataclass(frozen=True)
class RealData:
    """The real images of one job.

    Args:
        base: the base set, which it trains on.
        unused: the rest of the training split, if any.
        test: the test set.
        validation: what checkpoints and strengths are selected on, if any: neither trained nor tested on.
        num_skipped: files and classes of the data set that were left out because they cannot be used.
        shape: (H, W, C) that every image is brought to.
        copies: how often `base` repeats each of its images.
        distinct: the base set with each image once.
        keys: which images of the training split these are, int64, ascending.
        decoded: where decoded images are held; see `image_store.open_images`.
        map_dir: the folder of maps of decoded images.
        random_crop: the smallest part of a training image's area that a random resized crop takes; 0: no such crop.
        test_crop: how much of its shorter side the central square of a test image takes.
    """

    base: Source
    unused: Source | None
    test: Source
    shape: tuple[int, int, int]
    copies: int
    distinct: Source
    keys: np.ndarray
    decoded: str = "auto"
    map_dir: str = ""
    random_crop: float = 0.0
    test_crop: float = 1.0
    validation: Source | None = None
    num_skipped: int = 0


def real_data(
    source: str,
    path: str = "",
    n_base: int = 0,
    base_seed: int = 0,
    copies: int = 1,
    image_px: int = 0,
    channels: int = 0,
    digest: str = "",
    n_per_class: int = 0,
    imbalance: str = "",
    imbalance_ratio: float = 0.0,
    classes: str = "",
    decoded: str = "auto",
    map_dir: str = "",
    random_crop: float = 0.0,
    test_crop: float = 1.0,
    validation: float | str = 0.0,
    rules: Rules | None = None,
    look: Look | None = None,
) -> RealData:
    """Opens a data set and cuts the base set out of its training split.

    Args:
        source: the data set, a name of `sources.registry.open_source`.
        path: where it lies, if it is not built in.
        n_base: size of the base set, stratified and nested; 0 is the whole training split.
        base_seed: which base set of that size.
        copies: how often each base image counts (the duplication control).
        image_px: side that images are brought to; 0 is as they are.
        channels: 1 (grey) or 3 (RGB) that images are brought to; 0 is as they are.
        digest: the content address that the training split must have; "" is any.
        n_per_class: size of the base set in each class, instead of n_base; 0 is off.
        imbalance: "step" or "exponential" cuts classes of the base set down, see `base_set`; "" is off.
        imbalance_ratio: the largest class over the smallest after that cut; 0 where nothing is cut.
        classes: a text file with the classes to use, one a line, in the order of their labels; "" is all.
        decoded: where decoded images are held: "auto", "memory", "map" or "none"; see `image_store.open_images`.
        map_dir: the folder of maps of decoded images, for "map" and "auto"; "" is none.
        random_crop: the smallest part of the area that a random resized crop of a training image takes; 0 is off.
        test_crop: the side of the central square of a test image that is evaluated, over its shorter side: 1.0 is all,
            0.875 is 224 out of 256, as usual for networks trained with random_crop.
        validation: the part of each class of the training split that is cut off to select on, before the base set is
            taken, or the name of a split of the source's own, such as "validation"; 0.0 is none.
        rules: how the files of a folder are read and divided, by default as `Rules` says.
        look: finds more images that look alike, see `open_folder`.
    Raises: ValueError: no such data set, a base set that cannot be cut out of it, copies below 1, a crop out of range,
        or other content than `digest` says.
    """
    if copies < 1 or not 0.0 <= random_crop <= 1.0 or not 0.0 < test_crop <= 1.0:
        raise ValueError(
            f"data.copies {copies}, data.random_crop {random_crop}, data.test_crop {test_crop}: expected whole "
            "numbers from 1, 0 (off) to 1, and above 0 to 1 (all of the image)."
        )
    part, own = _validation(validation)
    splits = ("train", "test", *filter(None, [own]))
    train, test, *selected = registry.open_splits(source, splits, path, classes, rules or AS_THEY_ARE, look)
    if rules and rules.captions:
        train = captioned(train, rules.captions)
    num_skipped, select, places = train.num_skipped, selected[0] if selected else None, np.arange(len(train))
    if part:
        of_class = [make_key(6, c) for c in range(len(train.class_names))]
        try:
            is_cut = held_out(train.labels, part, of_class, train.groups, train.class_names)
        except ValueError as error:
            raise ValueError(
                f"data.validation {part}: got training images of {source} {path} that cannot be divided: {error}. Give "
                "a validation set of your own, or divide smaller groups (data.group, data.near_duplicates)."
            ) from error
        select, places = train.subset(np.flatnonzero(is_cut), "validation"), np.flatnonzero(~is_cut)
        train = train.subset(places)
    if digest and train.digest != digest:
        changed = f"digest {train.digest}, expected {digest}"
        raise ValueError(f"The images of {source} {path} have changed: {changed}. Restore them, or use a new folder.")
    keys = base_set(train.labels, n_base, n_per_class, base_seed, imbalance, imbalance_ratio)
    rest = np.setdiff1d(np.arange(len(train)), keys)
    if len(keys) * copies > MOST_IMAGES:
        raise ValueError(
            f"data.copies {copies} of {len(keys):,} images: a base set cannot hold more than {MOST_IMAGES:,}, so "
            f"expected up to {MOST_IMAGES // len(keys):,}."
        )
    keys = np.sort(keys)
    distinct = train.subset(keys, REAL)
    base = distinct if copies == 1 else train.subset(np.tile(keys, copies), REAL)
    unused = train.subset(rest, "unused") if len(rest) else None
    shape = shape_of(train, image_px, channels)
    loading = (decoded, map_dir, random_crop, test_crop)
    return RealData(base, unused, test, shape, copies, distinct, places[keys], *loading, select, num_skipped)


def _validation(wanted: float | str) -> tuple[float, str]:
    """Reads data.validation: (a part, "") or (0.0, the name of a split). Raises: ValueError: no part below 1."""
    try:
        part = float(wanted)
    except ValueError:
        return 0.0, str(wanted)
    if not 0.0 <= part < 1.0:
        raise ValueError(f"data.validation {wanted}: expected a share from 0 to below 1, or the name of a split.")
    return part, ""


def shape_of(source: Source, image_px: int = 0, channels: int = 0) -> tuple[int, int, int]:
    """The shape that a source's images are brought to: its own, unless the configuration says otherwise."""
    if channels not in (0, 1, 3) or not 0 <= image_px <= MOST_PX:
        allowed = f"0 (as they are), or a size up to {MOST_PX:,} and 1 or 3 channels"
        raise ValueError(f"data.image_px {image_px}, data.channels {channels}: expected {allowed}.")
    height, width, depth = source.shape or (0, 1, 0)
    if (height != width and not image_px) or not (channels or depth):
        raise ValueError(
            f"The images of {source.name} are not all square and of one size: set data.image_px and data.channels "
            "(1 or 3) to what they shall be brought to."
        )
    side = image_px or height
    return (side, side, channels or depth)


def open_set(path: Path | Source, real: Source, num_images: int = 0) -> Source:
    """Opens a synthetic set that is to be mixed with real images of the same classes.

    Args:
        path: its folder, or the set itself.
        real: the images that it is to be mixed with.
        num_images: use the first so many; 0 is all.
    Raises: ValueError: another set of classes, or more images wanted than there are.
    """
    images = path if isinstance(path, Source) else open_synthetic(path)
    name = images.name if isinstance(path, Source) else str(path)
    if images.class_names != real.class_names:
        raise ValueError(
            f"The synthetic set {name} has classes {images.class_names}, the real images {real.class_names}. "
            "Mix sets of the same classes, in the same order."
        )
    check_set_size(name, num_images, len(images))
    return images.subset(np.arange(num_images)) if num_images else images


def check_set_size(name: str, num_images: int, size: int) -> None:
    """Refuses to use more images of a synthetic set than its size."""
    if not 0 <= num_images <= size:
        raise ValueError(f"data.n_synthetic {num_images}: {name} holds {size}. Sample more, or ask for fewer (0: all).")


def filtered(
    pool: Pool, drop_lowest: float, per_class: bool, scores: Mapping[str, np.ndarray], keep_above: str | float = ""
) -> Pool:
    """Drops the lowest-scored part of each synthetic set, or what is scored no higher than a threshold.

    Args:
        pool: the images.
        drop_lowest: the part, 0 for none.
        per_class: of each class by itself.
        scores: source -> numbers [images of that source].
        keep_above: the threshold, see `threshold`; "" for none.
    Raises: ValueError: both filters at once, a filter and no scores, a part out of range, or a threshold that is no
        number or leaves nothing of a set.
    """
    level = threshold(keep_above, len(pool.class_names))
    wanted = {f"data.drop_lowest {drop_lowest}": drop_lowest, f"data.keep_above {keep_above!r}": level is not None}
    filters = [text for text, is_wanted in wanted.items() if is_wanted]
    if len(filters) == 2:
        raise ValueError(f'{" and ".join(filters)}: expected one of the two. Set the other to 0.0 or "".')
    if filters and not scores:
        raise ValueError(f"{filters[0]} needs scores, data.scores names none: give the folder of `jaxmoust score`.")
    if level is not None:
        return pool.keep_above(scores, level)
    return pool.drop_lowest(scores, drop_lowest, per_class=per_class) if drop_lowest else pool


def threshold(keep_above: str | float, num_classes: int) -> float | None:
    """Reads data.keep_above: a number, "1/C" for one over the number of classes (what a guess would score), "" none.

    Raises: ValueError: anything else.
    Source of 1/C: He et al. 2023 (2210.07574), who keep what CLIP is surer of than that.
    """
    text = str(keep_above).strip()
    if not text:
        return None
    try:
        level = 1 / num_classes if text == "1/C" else float(text)
    except ValueError:
        level = np.nan
    if not np.isfinite(level):
        raise ValueError(f'data.keep_above {keep_above!r}: expected a number such as "0.5", "1/C", or "" for none.')
    return level
