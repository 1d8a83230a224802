"""A synthetic set on disk: written shard by shard, opened again, with what made it.

The folder is an ordinary prepared TFDS data set (ArrayRecord shards of PNG images), so that plain
`tfds.builder_from_directory(path).as_data_source()` reads it, and neither writing nor reading needs TensorFlow.
A shard appears whole or not at all; whoever restarts asks for the missing ones and writes exactly those, and
several processes may write different shards at the same time. How images are made is not known here.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np

from jaxmoust.data.loading.transforms import encode_png
from jaxmoust.data.source import Source, digest_bytes, digest_files
from jaxmoust.data.sources.tfds_records import TfdsRecords
from jaxmoust.data.synthetic.spec import SyntheticSpec, shard_range

__all__ = [
    "SyntheticSpec",
    "finish",
    "is_whole",
    "missing_shards",
    "open_synthetic",
    "shard_range",
    "write_shard",
]

_SPLIT = "train"
_VERSION = "1.0.0"
_SPEC_FILE = "spec.json"
PROVENANCE_FILE = "provenance.json"


def missing_shards(path: str | os.PathLike, spec: SyntheticSpec) -> tuple[int, ...]:
    """Names the shards that are not there whole: absent, truncated, or of another length.

    Raises: ValueError: the folder holds a set of another spec.
    """
    _check_spec(Path(path), spec)
    return tuple(s for s in range(spec.num_shards) if _shard_fault(Path(path), spec, s))


def write_shard(
    path: str | os.PathLike,
    spec: SyntheticSpec,
    shard: int,
    images: np.ndarray,
    prompts: Sequence[str] | None = None,
) -> Path:
    """Writes one shard: under a temporary name in the same folder, synced, then renamed.

    A process killed at any moment leaves the shard absent or whole. Writers of different shards do not meet;
    two writers of one shard write the same bytes, and the last one's stay.

    Args:
        path: the set's folder; made if absent.
        spec: what the set is; kept in the folder, and compared with what is there.
        shard: its number.
        images: uint8 [n, H, W, C], in the order of `shard_range`.
        prompts: one for each image, where they differ within a class; by default the spec's.
    Returns: the shard's file.
    Raises: ValueError: a folder of another spec, images of another shape, type or number.
    """
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    labels, indices = shard_range(spec, shard)
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape != (labels.size, *spec.shape):
        raise ValueError(
            f"Got images of shape {images.shape} and type {images.dtype} for shard {shard} of {spec.name!r}, "
            f"allowed is uint8 {(labels.size, *spec.shape)}: give exactly the shard's images."
        )
    if prompts is not None and len(prompts) != labels.size:
        raise ValueError(f"Got {len(prompts)} prompts for {labels.size} images: give one for each, or none.")
    if prompts is None:
        prompts = [spec.prompts[label] if spec.prompts else "" for label in labels]
    _keep_spec(Path(path), spec)
    features = _features(spec)
    serializer = ExampleSerializer(features.get_serialized_info())
    target = _shard_path(Path(path), spec, shard)
    with _whole_or_absent(target) as temporary:
        writer = ArrayRecordWriter(str(temporary), "group_size:1")  # one record a group: random access
        try:
            for image, label, index, prompt in zip(images, labels, indices, prompts, strict=True):
                example = {
                    "image": encode_png(image),
                    "label": int(label),
                    "index": int(index),
                    "seed": spec.seed,
                    "prompt": prompt,
                    "guidance": spec.guidance,
                    "steps": spec.steps,
                    "generator": spec.generator,
                }
                proto = serializer.get_tf_example(features.encode_example(example))
                # Sorted, so that a shard's bytes, and with them the set's digest, do not depend on the process.
                writer.write(proto.SerializeToString(deterministic=True))
        finally:
            writer.close()
    return target


def finish(path: str | os.PathLike, spec: SyntheticSpec, versions: Mapping[str, str] | None = None) -> None:
    """Turns the shards into a data set: writes TFDS's own files and provenance.json, once all are there.

    Call it when no writer is at work: temporary shards of killed writers are removed. Several processes may
    call it at once; they write the same files.

    Args:
        path: the set's folder.
        spec: what the set is.
        versions: of the packages that made it, for the record.
    Raises: ValueError: another spec, or shards that are missing (named).
    """
    import tensorflow_datasets as tfds

    folder = Path(path)
    _check_spec(folder, spec)
    faults = {s: fault for s in range(spec.num_shards) if (fault := _shard_fault(folder, spec, s))}
    if faults:
        raise ValueError(
            f"Got {folder} with {len(faults)} of {spec.num_shards} shards not there whole ({_some(faults)}), "
            f"allowed is none: write them (see missing_shards)."
        )
    files = [_shard_path(folder, spec, s) for s in range(spec.num_shards)]
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=spec.name, version=tfds.core.Version(_VERSION), data_dir=str(folder), module_name=__name__
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=f"Synthetic images of generator {spec.generator}; see {PROVENANCE_FILE}.",
        features=_features(spec),
        supervised_keys=("image", "label"),
        disable_shuffling=True,
    )
    lengths = [b - a for a, b in map(spec.shard_bounds, range(spec.num_shards))]
    num_bytes = sum(file.stat().st_size for file in files)
    split = tfds.core.SplitInfo(name=_SPLIT, shard_lengths=lengths, num_bytes=num_bytes)
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(tfds.core.splits.SplitDict([split]))
    # dataset_info.json makes the folder a data set, so it comes last.
    provenance = {"generator": spec.generator, "spec": asdict(spec), "versions": dict(versions or {})}
    _write_json(folder / PROVENANCE_FILE, provenance)
    with TemporaryDirectory(dir=folder, prefix=".") as temporary:
        info.features.save_config(temporary)  # features.json and the class names, each to be moved whole
        for file in Path(temporary).iterdir():
            os.replace(file, folder / file.name)
    with _whole_or_absent(folder / "dataset_info.json") as temporary:
        temporary.write_text(info.as_json)
    for leftover in folder.glob(f".{spec.name}-{_SPLIT}.*.tmp"):
        leftover.unlink(missing_ok=True)


def is_whole(path: str | os.PathLike) -> bool:
    """Whether every shard of a finished set is there whole, as it was when it was finished."""
    folder = Path(path)
    spec = _read_spec(folder)
    return not any(_shard_fault(folder, spec, s) for s in range(spec.num_shards))


def open_synthetic(path: str | os.PathLike) -> Source:
    """Opens a finished synthetic set; every shard is checked for its length.

    Raises: ValueError: not a finished set, or shards missing or truncated (named).
    """
    import tensorflow_datasets as tfds

    folder = Path(path).expanduser()
    for name in (PROVENANCE_FILE, "dataset_info.json"):
        if not (folder / name).is_file():
            raise ValueError(
                f"Got {folder}, which has no {name}, allowed is a finished synthetic set: finish writing it by "
                f"running the same job again, or correct the path."
            )
    spec = _read_spec(folder)
    faults = {s: fault for s in range(spec.num_shards) if (fault := _shard_fault(folder, spec, s))}
    if faults:
        raise ValueError(
            f"Got {folder} with {len(faults)} of {spec.num_shards} shards not there whole ({_some(faults)}), "
            f"allowed is none: run the job that wrote the set again, it fills in exactly these."
        )
    builder = tfds.builder_from_directory(str(folder))
    names = tuple(builder.info.features["label"].names)
    shape = tuple(builder.info.features["image"].shape)
    records = TfdsRecords(builder, _SPLIT, "image")
    if names != spec.class_names or shape != spec.shape or len(records) != spec.num_images:
        raise ValueError(
            f"Got {folder}, whose features.json or dataset_info.json ({len(records)} images of {shape} in "
            f"{list(names)}) do not fit its {PROVENANCE_FILE} ({spec.num_images} of {spec.shape} in "
            f"{list(spec.class_names)}): write the set again."
        )
    labels, _ = spec.labels_and_indices(0, spec.num_images)
    digest = digest_files([_shard_path(folder, spec, s) for s in range(spec.num_shards)], repr(names).encode())
    origin = digest_bytes(spec.origin.encode()) if spec.origin else ""
    return Source(spec.name, labels, names, shape, records, digest, origin)


def _features(spec: SyntheticSpec) -> Any:
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=spec.shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(spec.class_names)),
            "index": np.int64,
            "seed": np.int64,
            "prompt": tfds.features.Text(),
            "guidance": np.float32,
            "steps": np.int32,
            "generator": tfds.features.Text(),
        }
    )


def _shard_path(folder: Path, spec: SyntheticSpec, shard: int) -> Path:
    return folder / f"{spec.name}-{_SPLIT}.array_record-{shard:05d}-of-{spec.num_shards:05d}"


def _shard_fault(folder: Path, spec: SyntheticSpec, shard: int) -> str:
    """Says what is wrong with a shard, or "" when it is there whole (its footer is, and counts right)."""
    from array_record.python.array_record_module import ArrayRecordReader

    file = _shard_path(folder, spec, shard)
    if not file.is_file():
        return f"{file.name} is missing"
    start, stop = spec.shard_bounds(shard)
    try:
        reader = ArrayRecordReader(str(file))
        whole, num_images = reader.ok(), reader.num_records()
        reader.close()
    except (RuntimeError, ValueError) as error:
        return f"{file.name} is truncated or unreadable: {error}"
    if not whole:
        return f"{file.name} is truncated or unreadable"
    return "" if num_images == stop - start else f"{file.name} holds {num_images} images, not {stop - start}"


def _some(faults: Mapping[int, str]) -> str:
    named = list(faults.values())
    return "; ".join(named[:5]) + (f"; and {len(named) - 5} more" if len(named) > 5 else "")


def _check_spec(folder: Path, spec: SyntheticSpec) -> None:
    """Refuses a folder that holds another spec, with the fields that differ."""
    if not (folder / _SPEC_FILE).is_file():
        return
    there, given = _read_json(folder / _SPEC_FILE), json.loads(json.dumps(asdict(spec)))
    different = [
        f"{name}: {there.get(name)!r} there, {given.get(name)!r} given"
        for name in sorted(there.keys() | given.keys())
        if there.get(name) != given.get(name)
    ]
    if different:
        raise ValueError(
            f"Got {folder}, which holds another synthetic set ({'; '.join(different)}), allowed is an empty folder "
            f"or one of the same set: choose another folder."
        )


def _keep_spec(folder: Path, spec: SyntheticSpec) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _SPEC_FILE).is_file():
        _write_json(folder / _SPEC_FILE, asdict(spec))
    _check_spec(folder, spec)


@contextmanager
def _whole_or_absent(target: Path):
    """Yields a temporary path that becomes target, synced, when the body ends without an error."""
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else a power cut may forget the new name
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def _write_json(file: Path, content: Any) -> None:
    with _whole_or_absent(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _read_spec(folder: Path) -> SyntheticSpec:
    try:
        return SyntheticSpec(**_read_json(folder / PROVENANCE_FILE)["spec"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"Got {folder / PROVENANCE_FILE}, which does not describe a synthetic set ({error!r}), allowed is what "
            f"`finish` writes: write the set again."
        ) from error


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"Got an unreadable file, {file}: {error}. Write the set again.") from error
