"""A synthetic set on disk: written shard by shard, opened again, with what made it.

The folder is an ordinary prepared TFDS data set (ArrayRecord shards of PNG images), so that plain
`tfds.builder_from_directory(path).as_data_source()` reads it, and neither writing nor reading needs TensorFlow.
A shard appears whole or not at all; whoever restarts asks for the missing ones and writes exactly those, and
several processes may write different shards at the same time. What a finished set consists of stands, file by file
with its digest, in provenance.json: a file that was damaged since is missing, and written again by the same command.
How images are made is not known here.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jaxmoust.data.checks import listed
from jaxmoust.data.image import encode_png
from jaxmoust.data.source import Lineage, Soft, Source, digest_bytes, digest_files
from jaxmoust.data.sources.labels import Labelled
from jaxmoust.data.sources.tfds_records import TfdsRecords
from jaxmoust.data.synthetic.spec import SyntheticSpec, shard_range
from jaxmoust.runtime.lock import alone
from jaxmoust.runtime.paths import atomic_write, file_digest, read_json, read_npz, replacing, sweep, visible

_SPLIT = "train"
_VERSION = "1.0.0"
_SPEC_FILE = "spec.json"
_INFO_FILE = "dataset_info.json"
PROVENANCE_FILE = "provenance.json"
_LINEAGE_FILE = "lineage.npz"
# In `created_by`: the digest of the real images that a set's images were made from; whether their labels are soft.
PARENTS, SOFT = "parents", "soft"


def missing_shards(path: str | os.PathLike, spec: SyntheticSpec) -> tuple[int, ...]:
    """Names the shards that are not there whole: absent, truncated, of another length, or damaged since the finish.

    Raises: ValueError: the folder holds a set of another spec.
    """
    _check_spec(Path(path), spec)
    return tuple(_shard_faults(Path(path), spec))


def write_shard(
    path: str | os.PathLike,
    spec: SyntheticSpec,
    shard: int,
    images: np.ndarray,
    prompts: Sequence[str] | None = None,
    files: Sequence[str] | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Writes one shard, whole or not at all.

    Writers of different shards do not meet; two writers of one shard write the same bytes, and the last one's stay.

    Args:
        path: the set's folder; made if absent.
        spec: what the set is; kept in the folder, and compared with what is there.
        shard: its number.
        images: uint8 [n, H, W, C], in the order of `shard_range`.
        prompts: one for each image, where they differ within a class; by default the spec's.
        files: what each image was called where it comes from, for a spec whose `created_by` has "files".
        columns: of each image "parent" (its place among the real images) and "strength", for a spec whose `created_by`
            has "parents"; "second" and "second_weight", for one that has "soft".
    Returns: the shard's file.
    Raises: ValueError: a folder of another spec, images of another shape, type or number.
    """
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    folder = Path(path)
    labels, indices = shard_range(spec, shard)
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape != (labels.size, *spec.shape):
        raise ValueError(
            f"Got images of shape {images.shape} and type {images.dtype} for shard {shard} of {spec.name!r}, "
            f"expected uint8 {(labels.size, *spec.shape)}. Give exactly the shard's images."
        )
    if prompts is None:
        prompts = [spec.prompts[label] if spec.prompts else "" for label in labels]
    more, wanted = dict(columns or {}), _more_features(spec)
    if set(more) != set(wanted) or any(len(of) != labels.size for of in more.values()):
        raise ValueError(f"Expected {list(wanted) or 'no columns'} of {labels.size} images, got {list(more)}.")
    if len(prompts) != labels.size:
        raise ValueError(f"Got {len(prompts)} prompts for {labels.size} images. Give one for each, or none.")
    folder.mkdir(parents=True, exist_ok=True)
    _check_spec(folder, spec)
    if not (folder / _SPEC_FILE).is_file():
        atomic_write(folder / _SPEC_FILE, _json(asdict(spec)))
    features = _features(spec)
    serializer = ExampleSerializer(features.get_serialized_info())
    same = {"seed": spec.seed, "guidance": spec.guidance, "steps": spec.steps, "generator": spec.generator}
    target = _shard_path(folder, spec, shard)
    with replacing(target) as file:
        writer = ArrayRecordWriter(file.name, "group_size:1")  # one record a group: random access
        try:
            rows = {"label": labels.tolist(), "index": indices.tolist(), "prompt": prompts}
            rows |= {"file": [*map(visible, files)]} if files else {}
            rows |= {name: of.tolist() for name, of in more.items()}
            for image, *row in zip(images, *rows.values(), strict=True):
                example = {"image": encode_png(image), **dict(zip(rows, row, strict=True))}
                proto = serializer.get_tf_example(features.encode_example(example | same))
                # Sorted, so that a shard's bytes, and with them the set's digest, do not depend on the process.
                writer.write(proto.SerializeToString(deterministic=True))
        finally:
            writer.close()
    _record_again(folder, target)
    return target


def finish(
    path: str | os.PathLike,
    spec: SyntheticSpec,
    made_by: Mapping[str, Any] | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Turns the shards into a data set: writes TFDS's own files and provenance.json, once all are there.

    Call it when no writer is at work: temporary shards of killed writers are removed. Several processes may
    call it at once; they write the same files.

    Args:
        path: the set's folder.
        spec: what the set is.
        made_by: what its record says besides: "versions" of packages, "trained_on": the devices of the generator.
        columns: of all images, as `write_shard` takes those of a shard; kept once more beside the shards.
    Raises: ValueError: another spec, or shards that are missing (named).
    """
    import tensorflow_datasets as tfds

    folder = Path(path)
    _check_spec(folder, spec)
    _refuse_faults(folder, spec)
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
    with TemporaryDirectory() as temporary:
        info.features.save_config(temporary)  # features.json and the class names
        texts = {file.name: file.read_bytes() for file in Path(temporary).iterdir()}
    texts |= {_SPEC_FILE: _json(asdict(spec)), _INFO_FILE: info.as_json.encode()}
    if columns:
        content = io.BytesIO()
        types = _more_features(spec)
        arrays: dict[str, Any] = {name: np.asarray(of, types[name]) for name, of in columns.items()}
        np.savez(content, **arrays)
        texts[_LINEAGE_FILE] = content.getvalue()
    digests = {file.name: file_digest(file) for file in files}
    digests |= {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
    provenance = {"generator": spec.generator, "spec": asdict(spec), "versions": {}, **(made_by or {})}
    _write_provenance(folder, {**provenance, "files": digests})
    for name, text in texts.items():  # dataset_info.json makes the folder a data set, so it comes last
        atomic_write(folder / name, text)
    sweep(folder, f"{spec.name}-{_SPLIT}.*")


def is_set(path: str | os.PathLike) -> bool:
    """Whether a folder holds a synthetic set, finished or not."""
    return any((Path(path) / name).is_file() for name in (PROVENANCE_FILE, _SPEC_FILE))


def is_whole(path: str | os.PathLike) -> bool:
    """Whether a folder holds a finished set, every file of which is as it was when it was finished.

    A file is read once a process, and again when it changes. Sets of which no digests are recorded are whole when
    their shards are there and have their lengths.
    """
    folder = Path(path)
    try:
        _refuse_damaged(folder, read_spec(folder))
    except (ValueError, OSError):
        return False
    return True


def open_synthetic(path: str | os.PathLike) -> Source:
    """Opens a finished synthetic set, every file of which is as it was when it was finished; see `is_whole`.

    Raises: ValueError: not a finished set, or files missing or damaged (named).
    """
    import tensorflow_datasets as tfds

    folder = Path(path).expanduser()
    for name in (PROVENANCE_FILE, _INFO_FILE):
        if not (folder / name).is_file():
            raise ValueError(
                f"Got {folder}, which has no {name}, expected a finished synthetic set. Finish writing it by "
                f"running the same job again, or correct the path."
            )
    spec = read_spec(folder)
    _refuse_damaged(folder, spec)
    try:
        builder = tfds.builder_from_directory(str(folder))
        names = tuple(builder.info.features["label"].names)
        shape = tuple(builder.info.features["image"].shape)
        images = TfdsRecords(builder, _SPLIT, "image")
    except Exception as error:  # whatever a damaged file, of which no digest was recorded, makes TFDS's parsers do
        raise ValueError(f"Got {folder}, whose TFDS files cannot be read ({error}). Write the set again.") from error
    if names != spec.class_names or shape != spec.shape or len(images) != spec.num_images:
        raise ValueError(
            f"Got {folder}, whose features.json or {_INFO_FILE} ({len(images)} images of {shape} in "
            f"{list(names)}) do not fit its {PROVENANCE_FILE} ({spec.num_images} of {spec.shape} in "
            f"{list(spec.class_names)}). Write the set again."
        )
    labels, _ = spec.labels_and_indices(0, spec.num_images)
    digest = digest_files([_shard_path(folder, spec, s) for s in range(spec.num_shards)], repr(names).encode())
    origin = digest_bytes(spec.origin.encode()) if spec.origin else ""
    lineage = soft = None
    if wanted := _more_features(spec):
        found = read_npz(folder / _LINEAGE_FILE)
        if "parents" in found:  # of a set of one strength, as they were written
            strength = np.full(len(labels), spec.created_by["strength"], np.float32)
            found |= {"parent": found["parents"], "strength": strength}
        if any(name not in found or found[name].shape != labels.shape for name in wanted):
            raise ValueError(f"{folder / _LINEAGE_FILE} lacks {' or '.join(wanted)} of an image: write the set again.")
        if PARENTS in spec.created_by:
            lineage = Lineage(str(spec.created_by[PARENTS]), found["parent"], found["strength"])
        soft = Soft(found["second"].astype(np.int32), found["second_weight"]) if SOFT in spec.created_by else None
    return Source(spec.name, labels, names, shape, images, digest, origin, lineage=lineage, soft=soft)


def read_labelled(path: str | os.PathLike) -> Labelled:
    """What the images of a finished set are called, CLASS/INDEX where they came without a name, and their prompts."""
    spec, records = read_spec(path), open_synthetic(path).records
    assert isinstance(records, TfdsRecords)
    labels, indices = spec.labels_and_indices(0, spec.num_images)
    names = [f"{spec.class_names[label]}/{index:05}" for label, index in zip(labels, indices, strict=True)]
    if "files" in spec.created_by:
        names = [name.decode() for name in records.column("file")]
    prompts = tuple(text.decode() for text in records.column("prompt"))
    return Labelled(tuple(names), tuple(labels.tolist()), spec.class_names, prompts if any(prompts) else ())


def _features(spec: SyntheticSpec) -> Any:
    import tensorflow_datasets as tfds

    more: dict[str, Any] = {"file": tfds.features.Text()} if "files" in spec.created_by else {}
    more |= _more_features(spec)
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
            **more,
        }
    )


def _more_features(spec: SyntheticSpec) -> dict[str, Any]:
    """The types of what is recorded of each image of such a set besides."""
    of_parents = {"parent": np.int64, "strength": np.float32} if PARENTS in spec.created_by else {}
    return of_parents | ({"second": np.int64, "second_weight": np.float32} if SOFT in spec.created_by else {})


def _shard_path(folder: Path, spec: SyntheticSpec, shard: int) -> Path:
    return folder / f"{spec.name}-{_SPLIT}.array_record-{shard:05d}-of-{spec.num_shards:05d}"


def _shard_faults(folder: Path, spec: SyntheticSpec) -> dict[int, str]:
    """Says what is wrong with the shards that are not there whole, by their numbers: by their digests when finished."""
    try:
        digests = _read_provenance(folder).get("files", {})
    except (ValueError, OSError):  # not finished, or damaged: it is written again when the shards are whole
        digests = {}
    faults = {}
    for shard in range(spec.num_shards):
        file, (start, stop) = _shard_path(folder, spec, shard), spec.shard_bounds(shard)
        if not file.is_file():
            faults[shard] = f"{file.name} is missing"
        elif file.name in digests:
            if file_digest(file) != digests[file.name]:
                faults[shard] = f"{file.name} is damaged"
        elif (num_images := _num_records(file)) != stop - start:
            state = "is truncated or unreadable" if num_images is None else f"holds {num_images} images"
            faults[shard] = f"{file.name} {state}, not the {stop - start} images it should hold"
    return faults


def _refuse_faults(folder: Path, spec: SyntheticSpec) -> None:
    """Refuses a set whose shards are not all there whole."""
    if faults := _shard_faults(folder, spec):
        raise ValueError(
            f"Got {folder} with {len(faults)} of {spec.num_shards} shards not there whole ({listed(faults.values())}), "
            f"expected none. Run the job that wrote the set again, it fills in exactly these."
        )


def _refuse_damaged(folder: Path, spec: SyntheticSpec) -> None:
    """Refuses a finished set that has a file, a shard or another, which is not as it was."""
    _refuse_faults(folder, spec)
    digests = _read_provenance(folder).get("files", {})
    if damaged := sorted(name for name, digest in digests.items() if file_digest(folder / name) != digest):
        raise ValueError(
            f"Got {folder}, whose {listed(damaged)} is missing or damaged, expected a set as it was finished. Run "
            f"the job that wrote the set again, it mends exactly that."
        )


def _num_records(file: Path) -> int | None:
    """Reads how many records a shard holds from its footer; None when it has none."""
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(file))
        num_records = reader.num_records() if reader.ok() else None
        reader.close()
    except (RuntimeError, ValueError):
        return None
    return num_records


def _check_spec(folder: Path, spec: SyntheticSpec) -> None:
    """Refuses a folder that holds another spec, with the fields that differ."""
    try:
        there = _read_provenance(folder)["spec"]
    except (ValueError, OSError):  # not finished, or damaged
        there = read_json(folder / _SPEC_FILE)
    wanted = json.loads(_json(asdict(spec)))
    if there is None or there == wanted:
        return
    different = [
        f"{name}: {there.get(name)!r} there, {wanted.get(name)!r} given"
        for name in sorted(there.keys() | wanted.keys())
        if there.get(name) != wanted.get(name)
    ]
    raise ValueError(
        f"Got {folder}, which holds another synthetic set ({'; '.join(different)}), expected an empty folder "
        f"or one of the same set. Choose another folder."
    )


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _write_provenance(folder: Path, content: Mapping[str, Any]) -> None:
    atomic_write(folder / PROVENANCE_FILE, _json({**content, "digest": digest_bytes(_json(content))}))


def _record_again(folder: Path, shard: Path) -> None:
    """Takes a shard that was mended into the record of a finished set, should its bytes be others than before."""
    if not (folder / PROVENANCE_FILE).is_file():
        return
    with alone(folder / f".{PROVENANCE_FILE}.lock"):
        try:
            provenance = _read_provenance(folder)
        except ValueError:  # damaged: written again when the set is finished
            return
        digest = file_digest(shard)
        if provenance.get("files", {}).get(shard.name, digest) != digest:
            _write_provenance(folder, {**provenance, "files": {**provenance["files"], shard.name: digest}})


def _read_provenance(folder: Path) -> dict[str, Any]:
    """Reads provenance.json, without its own digest.

    Raises: ValueError: it is not there, damaged, or describes no synthetic set.
    """
    content = read_json(folder / PROVENANCE_FILE)
    if not isinstance(content, dict) or not isinstance(content.get("spec"), dict):
        raise ValueError(f"{folder / PROVENANCE_FILE} does not describe a synthetic set: write the set again.")
    digest = content.pop("digest", "")
    if (digest or "files" in content) and digest != digest_bytes(_json(content)):
        raise ValueError(f"{folder / PROVENANCE_FILE} is damaged. Run the job that wrote the set again.")
    return content


def read_spec(path: str | os.PathLike) -> SyntheticSpec:
    """What a finished set is. Raises: ValueError: it is none."""
    folder = Path(path).expanduser()
    try:
        return SyntheticSpec(**_read_provenance(folder)["spec"])
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{folder / PROVENANCE_FILE} describes no synthetic set ({error}): write it again.") from error
