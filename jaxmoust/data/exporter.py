"""Any source or synthetic set as plain files, whole or not at all: class folders with a metadata.csv, or Parquet.

Both are what `datasets.load_dataset` opens (imagefolder, parquet); the folders also what torchvision's ImageFolder and
this package's source "folder" do. Files leave as they came, byte for byte; images without a file as PNG.
"""

import csv
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from jaxmoust.data.image import encode_png, open_image
from jaxmoust.data.source import Source
from jaxmoust.data.synthetic.store import open_synthetic, read_labelled, read_spec

_NOT_IN_NAMES = re.compile(r'[\x00-\x1f/\\:*?"<>|]')  # on one system or another
_ROWS_AT_ONCE = 256
_DRAWN = ("seed", "guidance", "steps", "generator")


def describe_set(path: str | os.PathLike) -> dict[str, Sequence[Any]]:
    """What made each image of a set, by column: its index in its class, how it was drawn, its prompt and its file."""
    spec, files = read_spec(path), read_labelled(path)
    _, indices = spec.labels_and_indices(0, spec.num_images)
    columns: dict[str, Sequence[Any]] = {"index": indices.tolist()}
    known = [name for name in _DRAWN if name not in spec.created_by.get("unknown", ())]
    columns |= {name: [getattr(spec, name)] * spec.num_images for name in known}
    if files.prompts:
        columns["prompt"] = files.prompts
    images = open_synthetic(path)
    if lineage := images.lineage:
        columns["parent"] = lineage.parents.tolist()
        columns |= {} if lineage.strengths is None else {"strength": lineage.strengths.tolist()}
    if soft := images.soft:
        columns["soft_label"] = [
            ",".join(f"{images.class_names[c]}={share:.6g}" for c, share in ((a, 1 - w), (b, w)) if share > 0)
            for a, b, w in zip(images.labels, soft.second, soft.weight, strict=True)
        ]
    return {**columns, "file": files.names} if "files" in spec.created_by else columns


def export_folder(source: Source, columns: Mapping[str, Sequence[Any]], path: Path) -> None:
    """Writes PATH/CLASS/IMAGE and PATH/metadata.csv (file_name, label, and the columns).

    Args: columns: further ones, a value for each image. path: a new or an empty folder.
    Raises: ValueError: a folder that is not empty; an image that cannot be read. Nothing was written.
    """

    def write(inside: Path) -> None:
        with open(inside / "metadata.csv", "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file_name", "label", *columns])
            for i, (name, data) in enumerate(_files(source, columns.get("file"))):
                (inside / name).parent.mkdir(exist_ok=True)
                (inside / name).write_bytes(data)
                label = source.class_names[source.labels[i]]
                writer.writerow([name, label, *(column[i] for column in columns.values())])

    whole_folder(path, write)


def export_parquet(source: Source, columns: Mapping[str, Sequence[Any]], path: Path, name: str) -> None:
    """Writes PATH/NAME.parquet with the columns image (bytes, path) and label (a ClassLabel), and the further ones.

    Args, Raises: as `export_folder`; also: pyarrow is not there.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ValueError(
            f"Parquet needs the package pyarrow ({error}): pip install 'jaxmoust[parquet]', or export folders."
        ) from error
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(source.class_names), "_type": "ClassLabel"},
    }
    types = {str: (pa.string(), "string"), int: (pa.int64(), "int64"), float: (pa.float64(), "float64")}
    fields = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())]
    for column, values in columns.items():
        kind, dtype = types[type(values[0])]
        fields.append((column, kind))
        features[column] = {"dtype": dtype, "_type": "Value"}
    # How the library `datasets` says what columns are. Source: its arrow_schema, key "huggingface".
    schema = pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})

    def write(inside: Path) -> None:
        with pq.ParquetWriter(inside / f"{name}.parquet", schema) as writer:
            rows: list[dict[str, Any]] = []
            for i, (file, data) in enumerate(_files(source, columns.get("file"))):
                row = {"image": {"bytes": data, "path": file}, "label": int(source.labels[i])}
                rows.append({**row, **{column: values[i] for column, values in columns.items()}})
                if len(rows) == _ROWS_AT_ONCE or i == len(source) - 1:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    rows = []

    whole_folder(path, write)


def whole_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Has a folder written beside the one that is wanted, and puts it in that one's place."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} is there and not empty, expected a new or an empty folder. Give another one.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent) as temporary:
        inside = Path(temporary) / "export"
        inside.mkdir()
        write(inside)
        os.replace(inside, path)


def _files(source: Source, called: Sequence[str] | None) -> Iterator[tuple[str, bytes]]:
    """CLASS/NAME and the bytes of each image; names are what files were called, as far as systems allow and tell apart.

    Args: called: what the images were called where they came from, if their files say nothing.
    """
    folders: list[str] = []
    for name in source.class_names:
        folders.append(_free(_plain(name), "", {folder.casefold() for folder in folders}))
    used: set[str] = set()
    count = [0] * len(folders)
    for i, label in enumerate(source.labels.tolist()):
        name, encoded = source.file(i) or (called[i] if called else ""), source.encoded(i)
        if encoded is None:
            data, suffix = encode_png(source.read(i)), ".png"
        else:
            with open_image(encoded.data, encoded.name) as image:
                data, suffix = encoded.data, f".{(image.format or 'png').lower()}"
        suffix = PurePosixPath(source.file(i)).suffix or suffix
        stem = _plain(PurePosixPath(name).stem) if name else f"{count[label]:05}"
        file = _free(f"{folders[label]}/{stem}", suffix, used)
        used.add(file.casefold())
        count[label] += 1
        yield file, data


def _plain(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name).strip(". ") or "_"


def _free(stem: str, suffix: str, used: set[str]) -> str:
    """The name, or the first with a number behind it that is not used, whatever the case of its letters."""
    name, k = stem + suffix, 2
    while name.casefold() in used:
        name, k = f"{stem}_{k}{suffix}", k + 1
    return name
