"""Data sets of the Hugging Face hub, and parquet files and image folders as its library reads them."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.data.checks import check_choice, listed
from jaxmoust.data.image import AS_IT_IS, Encoded, EncodedImages, Reading
from jaxmoust.data.near_duplicates import Look, joined, with_looked
from jaxmoust.data.samplers.permutation import make_key
from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.data.sources.archive_source import changes_said
from jaxmoust.data.sources.image_folder import SPLITS, Rules
from jaxmoust.data.sources.scan import refuse_bad, scan_once
from jaxmoust.data.splits.held_out import held_out
from jaxmoust.runtime.paths import read_bytes

_LOG = logging.getLogger(__name__)
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
    """Opens a split of a set with one column of images and one ClassLabel, or texts in the column label.

    Splits may have any of the usual names (see SPLITS); without one for test, that for validation is it. Of a set with
    neither each class is divided, as in a folder without splits.

    Args:
        name: of the hub, "org/set" or "org/set:configuration"; or a local folder of parquet files or of class folders,
            or one parquet file.
        split: "train", "test" or "validation".
        cache_dir: where the library keeps what it downloads and converts; "" is its own place.
        rules: how images are read and divided; `group` is a column, whose values are numbered alike in all splits.
        look: finds more images that look alike, where one split is divided.
    Raises: ValueError: the extra `hf` is missing, no such set or split, other columns, unreadable images, or groups
        that no division leaves whole.
    """
    check_choice("split", split, tuple(SPLITS), f" of hf:{name}")
    tables = _load(name, cache_dir)
    kinds = {kind: next((one for one in tables if one.lower() in usual), "") for kind, usual in SPLITS.items()}
    is_lent = not kinds["test"] and bool(kinds["validation"])
    if is_lent:
        kinds |= {"test": kinds["validation"], "validation": ""}
    if len(tables) == 1 and not kinds["test"]:
        kinds["train"] = next(iter(tables))
    is_cut = not kinds["test"] and split != "validation"
    if not (wanted := kinds["train"] if is_cut else kinds[split]):
        lent = f" Its {kinds['test']} is its test set, as there is no other." if is_lent else ""
        raise ValueError(f"Got no split for {split} in hf:{name}, which has {', '.join(tables)}. Choose one.{lent}")
    table = tables[wanted]
    image = _column(name, table.features, "Image")
    class_names, labels = _labels(name, tables, wanted)
    groups = _groups(name, {part: tables[part] for part in (*kinds.values(), wanted) if part}, wanted, rules.group)
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
    source = Source(f"{name}/{split}", labels, class_names, shape, images, digest, groups=groups)
    good = mine = np.flatnonzero(found.reasons == "")
    if is_cut:
        kept, keys = source.subset(good), [make_key(0, 5, c) for c in range(len(class_names))]
        if rules.near_duplicates == "together" and (pairs := found.take(good).pairs) is not None:
            one_by_one = np.arange(good.size) if kept.groups is None else kept.groups
            kept = replace(kept, groups=joined(with_looked(pairs, look, [kept]), one_by_one))
            groups = np.zeros(labels.size, np.int64)
            groups[good] = kept.groups
        try:
            is_test = held_out(kept.labels, _TEST_FRACTION, keys, kept.groups, class_names)
        except ValueError as error:
            raise ValueError(
                f"Got images in hf:{name} that cannot be split into train and test: {error}. Name another column in "
                "data.group, or give a test set of your own."
            ) from error
        mine = good[is_test == (split == "test")]
        bad = bad[: 0 if split == "test" else None]  # said and counted once
    notes = changes_said(found.take(mine), rules.reading) if mine.size else []
    if bad.size:
        shown = listed([f"row {i} ({found.reasons[i]})" for i in bad])
        notes.insert(0, f"Left out (data.on_bad='skip'): {bad.size:,}, {shown}.")
    for note in notes:
        _LOG.warning("hf:%s, %s: %s", name, split, note)
    source = replace(source, num_skipped=bad.size, groups=groups)
    return source if mine.size == labels.size else source.subset(mine)


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
        or_text = ", or texts in a column label" if kind == "ClassLabel" else ""
        columns = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in features.items())
        raise ValueError(f"Got hf:{name} with the columns {columns}, expected one {kind}{or_text}. Choose another set.")
    return of_kind[0] if len(of_kind) == 1 else "label"


def _labels(name: str, tables: Any, wanted: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes, and those of a split as int32 [n]; texts are classes by their order in all splits."""
    features = tables[wanted].features
    has_names = any(type(feature).__name__ == "ClassLabel" for feature in features.values())
    if has_names or getattr(features.get("label"), "dtype", "") not in ("string", "large_string"):
        label = _column(name, features, "ClassLabel")
        return tuple(features[label].names), np.asarray(tables[wanted][label][:], np.int32)
    texts = {split: table["label"][:] for split, table in tables.items() if "label" in table.features}
    if empty := sum(not text for text in texts[wanted]):
        raise ValueError(f"Got {empty:,} rows of hf:{name}, {wanted}, without a label, expected one each. Add them.")
    names = tuple(sorted({str(text) for of_split in texts.values() for text in of_split if text}))
    number = {text: c for c, text in enumerate(names)}
    return names, np.array([number[text] for text in texts[wanted]], np.int32)


def _groups(name: str, tables: Mapping[str, Any], wanted: str, group: str) -> np.ndarray | None:
    """The groups of a split, numbered as in the others: int64 [n]; a row without one is by itself. None: no groups."""
    numbers: dict[Any, int] = {}
    found = {}
    for split, table in tables.items() if group else ():
        if group not in table.features:
            columns = ", ".join(table.features)
            raise ValueError(
                f"data.group {group!r} is no column of hf:{name}, {split}, which has {columns}. Choose one."
            )
        values = [(split, i) if value in (None, "") else str(value) for i, value in enumerate(table[group][:])]
        found[split] = np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)
    return found.get(wanted)
