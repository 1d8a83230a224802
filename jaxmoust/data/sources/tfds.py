"""Any prepared TFDS data set with one image and one class label, by random access (ArrayRecord)."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.data.source import Source, digest_bytes, digest_files
from jaxmoust.data.sources.scan_cache import file_facts, is_stable, load, save, stat_row
from jaxmoust.data.sources.tfds_records import TfdsRecords

_REMEMBERED_FROM = 4096  # records; the labels of fewer are read in a moment


def tfds_source(name: str, split: str, data_dir: str = "") -> Source:
    """Opens a prepared TFDS data set.

    A record's label lies beside its image, so that reading the labels is reading the whole split. That is done once:
    they are remembered (see scan_cache.py) for as long as the content of the split's files stays the same.

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
        image = _only(builder.info, tfds.features.Image, name)
        label = _only(builder.info, tfds.features.ClassLabel, name)
        if features[image].shape[-1] not in (1, 3) or features[image].np_dtype != np.uint8:
            raise ValueError(
                f"its images are {features[image].np_dtype} {features[image].shape}, not uint8 [H, W, 1 or 3]"
            )
        records = TfdsRecords(builder, split, image)
    except Exception as error:  # whatever a set of another kind, or a damaged file, makes TFDS do
        raise ValueError(
            f"Got the TFDS set {name!r}, split {split!r}, data_dir {data_dir!r}, which cannot be read: {_said(error)}. "
            f"Allowed is a set prepared as ArrayRecord with one image and one class label: prepare it with "
            f"`jaxmoust data prepare` (download_and_prepare with file_format='array_record')."
        ) from error
    paths = [Path(file.filename) for file in builder.info.splits[split].file_instructions]
    what = f"labels {label} of {Path(builder.data_dir).resolve()}, split {split}"
    labels = _labels(records, label, what, paths)
    names, shape = tuple(features[label].names), tuple(features[image].shape)
    digest = digest_files(paths, str(split).encode(), repr(features[label].names).encode(), labels.tobytes())
    return Source(f"{name}/{split}", labels, names, None if None in shape else shape, records, digest)


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
            f"Got the TFDS set {name!r}, which cannot be prepared: {_said(error)}. Allowed is a name of TFDS's "
            f"catalogue, with TensorFlow installed: pip install 'jaxmoust[tfds]'."
        ) from error
    return Path(builder.data_dir)


def _said(error: Exception) -> str:
    """The sentence of an error that TFDS explains on many lines."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__).rstrip(".")


def _labels(records: TfdsRecords, feature: str, what: str, paths: list[Path]) -> np.ndarray:
    """The label of every record, int32 [N]: read from all of them, or remembered."""
    if len(records) < _REMEMBERED_FROM:
        return records.column(feature).astype(np.int32)
    rows = np.array([stat_row(path.stat()) for path in paths])
    # All bytes of a small set; of a large one the ends of its files, to which their times are added.
    content = digest_files(paths)
    times = file_facts([path.name for path in paths], rows) if content.startswith("ends-") else ""
    facts = digest_bytes(content.encode(), times.encode())
    known = load(what, facts)
    if known is not None and len(known) == 4 * len(records):
        return np.frombuffer(known, "<i4").astype(np.int32)
    labels = records.column(feature).astype(np.int32)
    if not times or is_stable(rows):
        save(what, facts, labels.astype("<i4").tobytes())
    return labels


def _only(info: Any, kind: type, name: str) -> str:
    """The feature of a kind: the only one, or of several (CIFAR-100 has two labels) the one to learn by."""
    features, supervised = info.features, info.supervised_keys or ()
    keys = [key for key, feature in features.items() if isinstance(feature, kind)]
    chosen = keys if len(keys) == 1 else [key for key in keys if key in supervised]
    if len(chosen) != 1:
        raise ValueError(f"{name!r} has {len(keys)} features of kind {kind.__name__}: {keys or list(features)}")
    return chosen[0]
