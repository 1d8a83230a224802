"""Data sets of the Hugging Face hub, and parquet files and image folders as its library reads them."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.data.checks import check_choice
from jaxmoust.data.image import AS_IT_IS, Encoded, EncodedImages, Reading
from jaxmoust.data.near_duplicates import Look, joined
from jaxmoust.data.samplers.permutation import make_key
from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.data.sources.image_folder import SPLITS, Rules
from jaxmoust.data.sources.scan import refuse_bad, scan_once
from jaxmoust.data.splits.held_out import held_out
from jaxmoust.runtime.paths import read_bytes

_TEST_FRACTION = 0.2  # of a set without a test split, as of a folder


@dataclass(frozen=True)
class Rows(EncodedImages):
    """The images of a column; each is read as it lies there, and decoded here.

    Attributes:
        table: a datasets.Dataset whose images stay encoded.
        column: the name of its images.
        path: what errors call the set.
        channels: 1 or 3; see `Encoded`.
        reading: how pixels become 8 opaque bits.
    """

    table: Any
    column: str
    path: str
    channels: int = 3
    reading: Reading = AS_IT_IS

    def __len__(self) -> int:
        """The number of images."""
        return len(self.table)

    def read(self, name: str) -> bytes:
        """The bytes of row number NAME. Raises: ValueError: there are none."""
        cell = self.table[int(name)][self.column] or {}
        if not (cell.get("bytes") or cell.get("path")):
            raise ValueError("it holds no image")
        return cell["bytes"] or read_bytes(cell["path"])

    def display_name(self, name: str) -> str:
        """What errors call a row."""
        return f"row {name} of {self.path}"

    def encoded(self, i: int) -> Encoded:
        """Image i as the set holds it."""
        return Encoded(self.read(str(i)), self.channels, self.display_name(str(i)), self.reading)


def hugging_face(name: str, split: str, cache_dir: str, rules: Rules, look: Look | None = None) -> Source:
    """Opens a split of a set with one column of images and one ClassLabel.

    Splits may have any of the usual names (see SPLITS). Of a set without one for test each class is divided, as in a
    folder without splits.

    Args:
        name: of the hub, "org/set" or "org/set:configuration"; or a local folder of parquet files or of class folders,
            or one parquet file.
        split: "train", "test" or "validation".
        cache_dir: where the library keeps what it downloads and converts; "" is its own place.
        rules: how images are read and divided; `group` is a column.
        look: finds more images that look alike, where one split is divided.
    Raises: ValueError: the extra `hf` is missing, no such set or split, other columns, unreadable images.
    """
    check_choice("split", split, tuple(SPLITS), f" of hf:{name}")
    tables = _load(name, cache_dir)
    kinds = {kind: next((one for one in tables if one.lower() in usual), "") for kind, usual in SPLITS.items()}
    kinds["test"] = kinds["test"] or kinds["validation"]
    if len(tables) == 1:
        kinds["train"] = next(iter(tables))
    is_cut = not kinds["test"] and split != "validation"
    if not (wanted := kinds["train"] if is_cut else kinds[split]):
        raise ValueError(f"Got no split for {split} in hf:{name}, which has {', '.join(tables)}. Choose one.")
    table = tables[wanted]
    image, label = (_column(name, table.features, kind) for kind in ("Image", "ClassLabel"))
    class_names, labels = tuple(table.features[label].names), np.asarray(table[label][:], np.int32)
    groups = np.unique(np.asarray(_group(name, table, rules)), return_inverse=True)[1] if rules.group else None
    rows = Rows(table.cast_column(image, type(table.features[image])(decode=False)), image, f"hf:{name}, {wanted}")
    names, facts = [str(i) for i in range(len(table))], np.zeros((len(table), 3), np.int64)
    what = f"hf:{name}, {wanted}, {rules.reading}"
    found = scan_once(rows, names, facts, rules.reading, time.time_ns(), what, table._fingerprint.encode())
    bad = np.flatnonzero(found.reasons != "")
    if bad.size and rules.on_bad == "refuse":
        refuse_bad([names[i] for i in bad], found.reasons[bad].tolist(), rows, ", or set data.on_bad='skip'")
    header = [repr((class_names, wanted, found.channels)).encode(), found.applied(rules.reading)]
    digest = digest_bytes(*header, labels.tobytes(), found.hashes.tobytes())
    images = Rows(rows.table, image, rows.path, found.channels, rules.reading)
    shape = found.take(np.flatnonzero(found.reasons == "")).shape
    source = Source(f"{name}/{split}", labels, class_names, shape, images, digest, groups=groups, num_skipped=bad.size)
    if is_cut:
        keys = [make_key(0, 5, c) for c in range(len(class_names))]
        if rules.near_duplicates == "together" and found.pairs is not None:
            good, pairs = np.flatnonzero(found.reasons == ""), found.pairs
            if look:
                pairs = np.concatenate([pairs, good[look([source.subset(good)])]])
            groups = joined(pairs, np.arange(labels.size) if groups is None else groups)
        keep = held_out(labels, _TEST_FRACTION, keys, groups) == (split == "test")
    else:
        keep = np.ones(labels.size, bool)
    keep[bad] = False
    return source if keep.all() else source.subset(np.flatnonzero(keep))


def _load(name: str, cache_dir: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ValueError(f"Got hf:{name}, which needs the package datasets: pip install 'jaxmoust[hf]'.") from error
    here = Path(name).expanduser()
    kept: dict[str, Any] = {"cache_dir": cache_dir or None}
    try:
        if here.is_file():
            return datasets.load_dataset("parquet", data_files=str(here), **kept)
        if here.is_dir():
            kind = "parquet" if any(here.rglob("*.parquet")) else "imagefolder"
            return datasets.load_dataset(kind, data_dir=str(here), **kept)
        return datasets.load_dataset(*name.split(":", 1), **kept)
    except Exception as error:  # whatever a missing, gated or damaged set makes the library do
        said = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__).rstrip(".")
        raise ValueError(
            f"Got hf:{name}, which cannot be opened: {said}. Allowed is the name of a set of the hub (of a gated one: "
            "accept its terms there, and type `hf auth login`), a folder, or a parquet file."
        ) from error


def _column(name: str, features: Any, kind: str) -> str:
    of_kind = [column for column, feature in features.items() if type(feature).__name__ == kind]
    if len(of_kind) != 1 and "label" not in of_kind[1:]:
        columns = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in features.items())
        raise ValueError(f"Got hf:{name} with the columns {columns}, expected one {kind}. Choose another set.")
    return of_kind[0] if len(of_kind) == 1 else "label"


def _group(name: str, table: Any, rules: Rules) -> list:
    if rules.group not in table.features:
        columns = ", ".join(table.features)
        raise ValueError(f"data.group {rules.group!r} is no column of hf:{name}, which has {columns}. Choose one.")
    return table[rules.group][:]
