"""Folders of images, a subfolder a class or labelled by a table: your own images, or ImageNet with its 1.28 million.

Every file is decoded before any work starts (see scan.py): what is wrong is found at once, and all of it. What is
passed over is counted and named.
"""

import contextlib
import logging
import os
import time
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxmoust.data.checks import check_choice, check_number, listed
from jaxmoust.data.image import Reading
from jaxmoust.data.near_duplicates import Look, joined, with_looked
from jaxmoust.data.samplers.permutation import make_key
from jaxmoust.data.source import Source, digest_bytes, digest_files
from jaxmoust.data.sources.archive import FileImages, Members, is_system, table_of
from jaxmoust.data.sources.captions import FILES
from jaxmoust.data.sources.class_list import chosen_classes, read_class_list
from jaxmoust.data.sources.labels import (
    DATASET_JSON,
    EXTRA,
    Labelled,
    by_dataset_json,
    by_table,
    is_image,
    needs_extra,
    refuse_chunks,
    suffixes,
)
from jaxmoust.data.sources.leaks import LEFT_OUT, between
from jaxmoust.data.sources.scan import NOT_KNOWN, Scan, refuse_bad, scan_once
from jaxmoust.data.sources.scan_cache import remembered, stat_row
from jaxmoust.data.splits.held_out import held_out
from jaxmoust.runtime.paths import read_json

# Names of the folders of each split, in any case; of several that hold class folders, the first counts.
SPLITS = {"train": ("train", "training"), "test": ("test", "testing"), "validation": ("validation", "valid", "val")}
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}

_LOG = logging.getLogger(__name__)
_NUM_THREADS = 16  # a folder on a network disk waits, not computes
_TOGETHER = "data.near_duplicates='together' keeps them on one side."
_DEEPER = "images in folders inside the class folders"
_SKIP = ", or go on without them: data.on_bad='skip' (--on_bad=skip)"


@dataclass(frozen=True)
class Rules:
    """How the files of a folder are read and divided.

    Args:
        background: the colour that transparent pixels are laid on, by name or as "#808080".
        value_range: which values of 16-bit and float images become 0 and 255: "LOW,HIGH", "file" for the lowest and
            highest of each file, or "" for the range of 16 bits (floats are then refused).
        on_bad: "refuse": what cannot be read stops everything, named; "skip": goes on without it, counted.
        labels: a table that says of which class each file is, wherever it lies in the folder, in the place of class
            folders: CSV or JSON lines with columns such as file and label; a column split says train, validation or
            test, by any of the names in SPLITS.
        group: a column of that table, such as patient or camera, that no split divides.
        near_duplicates: "report" images of two splits that look the same, or keep them "together" on one side, that of
            the held-out ones where the splits are given; of sets of TFDS and Hugging Face, too.
        near_duplicates_by: a public network, a folder or a name on the hub, by whose features copies that were cut or
            mirrored are found, too; "" compares images at a glance alone.
        captions: what each training image shows: "files" (photo.txt beside photo.jpg), "table" (a column such as
            caption of the table of labels), or a JSON file, {file: caption} or a list in the order of the images.
    """

    background: str = "white"
    value_range: str = ""
    on_bad: Literal["refuse", "skip"] = "refuse"
    near_duplicates: Literal["report", "together"] = "report"
    near_duplicates_by: str = ""
    labels: str = ""
    group: str = ""
    captions: str = ""

    def __post_init__(self) -> None:
        """Refuses what is none of the choices, and no colour or range."""
        check_choice("data.on_bad", self.on_bad, ("refuse", "skip"))
        check_choice("data.near_duplicates", self.near_duplicates, ("report", "together"))
        self.reading  # noqa: B018

    @property
    def reading(self) -> Reading:
        """How pixels become 8 opaque bits."""
        return Reading(self.background, self.value_range)


AS_THEY_ARE = Rules()


@dataclass(frozen=True)
class Folder:
    """A folder whose images have been scanned.

    Attributes:
        root: the folder.
        class_names: K names.
        names: n files, relative to it: in the order of splits and classes.
        labels: int32 [n].
        parts: n names of splits; "" where nothing divides them.
        rules: how they are read and divided.
        scan: what they hold.
        rows: int64 [n, 3], what the file system says of them.
        since_ns: when they were scanned.
        groups: int64 [n], images that no split may divide; None: each is by itself.
        captions: n texts of a table; None: it has none.
        by_list: whether the labels come from a list, and not from their folders.
        skipped: what was left out because it cannot be read, or is too little, with the reason.
        notes: sentences for the user.
    """

    root: Path
    class_names: tuple[str, ...]
    names: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    rules: Rules
    scan: Scan
    rows: np.ndarray
    since_ns: int
    by_list: bool = False
    groups: np.ndarray | None = None
    captions: np.ndarray | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def take(self, keys: np.ndarray) -> "Folder":
        """Keeps the images of these indices, ascending."""
        of_each = {name: getattr(self, name)[keys] for name in ("names", "labels", "parts", "rows")}
        of_each |= {name: None if (of := getattr(self, name)) is None else of[keys] for name in ("groups", "captions")}
        return replace(self, **of_each, scan=self.scan.take(keys))

    def source(self, split: str) -> Source:
        """The images of one split, or of "all" where nothing has divided them."""
        mine = self.take(np.arange(self.labels.size) if split == "all" else np.flatnonzero(self.parts == split))
        names, reading = tuple(mine.names.tolist()), self.rules.reading
        part = (
            f"{split}, {digest_bytes(mine.labels.tobytes())}" if self.by_list else split
        )  # else names tell the labels
        what = repr((list(self.class_names), list(names), part, mine.scan.channels)).encode()
        header = [what, *filter(None, [mine.scan.applied(reading)])]
        paths, entry = [os.path.join(self.root, name) for name in names], f"address of {self.root.resolve()}, {split}"
        given = (names, mine.rows, self.since_ns, lambda: digest_files(paths, *header).encode())
        digest = remembered(entry, *given, b"".join(header)).decode()
        images = FileImages(Members(self.root, names), mine.scan.channels, reading)
        more: dict[str, Any] = {"groups": mine.groups, "num_skipped": len(self.skipped), "captions": mine.captions}
        return Source(
            f"{self.root.name}/{split}", mine.labels, self.class_names, mine.scan.shape, images, digest, **more
        )


def image_folder(
    path: str,
    split: str,
    test_fraction: float = 0.2,
    seed: int = 0,
    classes: str = "",
    rules: Rules = AS_THEY_ARE,
) -> Source:
    """A folder of images, a subfolder a class: PATH/train/CLASS and PATH/test/CLASS, or PATH/CLASS; see `open_folder`.

    Args: split: "train", "test", "validation" (of the first form, where there is one) or "all" (of the second).
    """
    return open_folder(path, (split,), test_fraction, seed, classes, rules).source(split)


def open_folder(
    path: str,
    splits: Sequence[str],
    test_fraction: float = 0.2,
    seed: int = 0,
    classes: str = "",
    rules: Rules = AS_THEY_ARE,
    look: Look | None = None,
) -> Folder:
    """Opens a folder, a subfolder a class: PATH/train/CLASS and PATH/test/CLASS, or PATH/CLASS.

    The folders of the first form may have any of the names in SPLITS, in any case; without one for test, that for
    validation is it. In the second form each class is split by itself: test takes test_fraction of it (at least one
    image, and never all), chosen by the seed. Where NVlabs' tools have left a dataset.json, the classes are the
    numbers in it, split as in the second form. System folders (@eaDir, __MACOSX, ...) are no classes.

    Args:
        path: the folder.
        splits: "train", "test", "validation" (of the first form), or "all" (the second form: no split); () is every
            split that there is.
        test_fraction: 0 < test_fraction < 1, for the second form.
        seed: of the split, for the second form.
        classes: a text file that names the class folders to use, one a line, in the order of their labels; by
            default all of them, by name.
        rules: how images are read and divided.
        look: finds more images that look alike, as `near_duplicates_by` of the rules says.
    Raises: ValueError: no such folder, no classes, empty classes, unreadable images, a class list with unknown
        names; unless the rules skip them.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"Got the path {root}, expected an existing folder of class folders. Correct the path.")
    since_ns = time.time_ns()
    if rules.group and not rules.labels:
        raise ValueError(f"data.group {rules.group!r} is a column of a table: name the table in data.labels, too.")
    listing = _Listing(root)
    by_json = {} if rules.labels else by_dataset_json(read_json(root / DATASET_JSON), str(root))
    table = listing.table(rules, read_class_list(classes) if classes else ()) if rules.labels else None
    parts = listing.parts_of(table, rules.labels, splits or ("train", "test")) if table else []
    folders = dict.fromkeys(parts, "") if table else {} if by_json else split_folders(root)
    splits = splits or tuple(folders) or ("train", "test")
    for split in splits:
        check_choice("split", split, tuple(folders) or ("train", "test", "all"), f" of {root}")
    if not folders:
        check_number("test_fraction", test_fraction, "0 < test_fraction < 1", lambda part: 0.0 < part < 1.0)
    if table:
        present = wanted = list(table.class_names)
        listing.tabled(table, parts, rules.group, {"train", "test", *(folders if rules.on_bad == "skip" else splits)})
    elif by_json:
        present = list(by_json)
        wanted = _wanted(root, {}, {"": present}, classes)
        left = set(listing.files()) - {DATASET_JSON, *(file for files in by_json.values() for file in files)}
        listing.leave(left, f"images that {DATASET_JSON} does not name")
        for name in wanted:
            listing.add("", name, [(file, row_of(root / file)) for file in by_json[name]])
    else:
        there = {split: listing.classes(inside) for split, inside in (folders or {"": ""}).items()}
        listing.beside(folders.values())
        present = there["train" if folders else ""]
        wanted = _wanted(root, folders, there, classes)
        if rules.on_bad == "skip":  # a class that one split lacks, none has
            splits = tuple(folders) or splits
        for split in splits if folders else ("",):
            counts = listing.walk(split, folders.get(split, ""), wanted)
            if not classes:
                refuse_chunks(counts, str(root / folders.get(split, "")))
    folder = _looked_at(listing, wanted, rules, since_ns, bool(by_json or table))
    if look and folder.scan.pairs is not None:
        pairs = with_looked(folder.scan.pairs, look, [folder.source("all")])
        folder = replace(folder, scan=replace(folder.scan, pairs=pairs))
    if not folders and "all" not in splits:
        # Numbered among all classes, so that a class list does not move images between train and test.
        folder = _divided(folder, test_fraction, {name: make_key(seed, 5, c) for c, name in enumerate(present)})
    return _said(_apart(folder), listing, classes)


def split_folders(root: Path) -> dict[str, str]:
    """The folder of each split: {} where none is for training, or none is held out.

    Raises: ValueError: two folders whose names differ in their case alone.
    """
    with os.scandir(root) as entries:
        there = sorted(entry.name for entry in entries if not is_system(entry.name) and entry.is_dir())
    found: dict[str, str] = {}
    for split, usual in SPLITS.items():
        names = sorted((name for name in there if name.lower() in usual), key=lambda name: usual.index(name.lower()))
        if len({name.lower() for name in names}) < len(names):
            raise ValueError(f"Got the folders {names} in {root}, expected one of a name. Rename or remove the rest.")
        names.sort(key=lambda name: not _has_folders(root / name))
        found |= {split: names[0]} if names else {}
    if "validation" in found and not ("test" in found and _has_folders(root / found["test"])):
        if _has_folders(root / found["validation"]) or "test" not in found:
            found["test"] = found.pop("validation")  # as of ImageNet, whose test images have no classes
    elif "validation" in found and not _has_folders(root / found["validation"]):
        del found["validation"]
    return found if {"train", "test"} <= found.keys() else {}


def _has_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir() and not is_system(entry.name) for entry in entries)


def _wanted(root: Path, folders: Mapping[str, str], there: Mapping[str, list[str]], classes: str) -> list[str]:
    """Names the classes that are used, in the order of their labels; the folder of every split has them.

    Args: there: the classes of each split, or of "" where there are none.
    """
    present = there["train" if folders else ""]
    wanted = list(chosen_classes(read_class_list(classes) if classes else (), present, str(root)))
    for split, inside in folders.items():
        if not (set(wanted) <= set(there[split]) if classes else wanted == there[split]):
            what = f"{wanted} in {root / folders['train']} but {there[split]} in {root / inside}"
            raise ValueError(f"Got the classes {what}, expected the same in both. Rename or add folders.")
    return wanted


@dataclass
class _Listing:
    """The images of a folder as they are found, what is passed over, by what is said of it, and what else is said."""

    root: Path
    names: list[str] = field(default_factory=list)
    rows: list[tuple[int, int, int]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    inside: dict[str, str] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    passed_over: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    said: list[str] = field(default_factory=list)

    def files(self) -> list[str]:
        """The names of all files, but those of systems."""
        files = (os.path.join(at, name) for at, _, names in os.walk(self.root) for name in names)
        return sorted(name for file in files if not is_system(name := os.path.relpath(file, self.root)))

    def leave(self, names: Iterable[str], kind: str) -> None:
        """Passes over files that are not in a list of images. Args: kind: what images among them are called."""
        for name in names:
            self._pass(kind if is_image(name) else _kind(name), name)

    def beside(self, used: Collection[str]) -> None:
        """Passes over what lies beside the split folders, if there are such."""
        with os.scandir(self.root) as entries:
            for entry in entries if used else ():
                if entry.name in used or is_system(entry.name):
                    continue
                kind = "folders beside the split folders"
                if not _is_folder(entry):
                    kind = _kind(entry.name, "beside the split folders")
                elif entry.name.lower() in _SPLIT_OF:
                    kind = "split folders that are not used (of each split the first that holds class folders is)"
                self._pass(kind, entry.name)

    def classes(self, inside: str) -> list[str]:
        """The class folders of a folder; one that holds system files alone is none.

        Raises: ValueError: there is none.
        """
        names, here = [], self.root.resolve()
        with os.scandir(self.root / inside) as entries:
            for entry in entries:
                if is_system(entry.name):
                    continue
                if not _is_folder(entry):
                    self._pass(_kind(entry.name, "beside the class folders"), os.path.join(inside, entry.name))
                elif entry.is_symlink() and here.is_relative_to(Path(entry.path).resolve()):
                    self._pass("links to the folder itself", os.path.join(inside, entry.name))
                else:
                    names.append(entry.name)
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            bare = list(threads.map(_is_bare, [self.root / inside / name for name in names]))
        for name in [name for name, is_bare in zip(names, bare, strict=True) if is_bare]:
            self._pass("folders that hold system files alone", os.path.join(inside, name))
            names.remove(name)
        if not names:
            flat = sum(is_image(name) for name in os.listdir(self.root / inside))
            lie = (
                f" {flat:,} images lie in it directly: sort them into such folders, or name their classes in a table "
                "(data.labels=FILE.csv, with columns such as file and label)."
            )
            raise ValueError(
                f"Got no class folder in {self.root / inside}, expected one subfolder a class. Fill the folder."
                f"{lie if flat else ''}"
            )
        return sorted(names)

    def walk(self, split: str, inside: str, classes: Sequence[str]) -> dict[str, int]:
        """Lists the images of class folders by name, and counts them.

        A million files are a few seconds, as no object is made for a file.
        """
        self.inside[split] = inside
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            found = list(threads.map(self._look_into, (os.path.join(inside, name) for name in classes)))
        for name, files in zip(classes, found, strict=True):
            self.add(split, name, files)
        return {name: len(files) for name, files in zip(classes, found, strict=True)}

    def add(self, split: str, label: str, files: Iterable[tuple[str, tuple[int, int, int]]]) -> None:
        """Adds files of one class, by their names."""
        for name, row in sorted(files):
            self.names.append(name)
            self.rows.append(row)
            self.labels.append(label)
            self.parts.append(split)

    def table(self, rules: Rules, classes: Sequence[str]) -> Labelled:
        """Reads the table of labels. Raises: ValueError: as `by_table`, or no column of that name."""
        names = self.files()
        members = Members(self.root, tuple(names))
        found = by_table(names, str(self.root), *table_of(members, rules.labels), classes)
        if rules.group and rules.group.lower() not in found.columns:
            columns = ", ".join(found.columns) or "none besides files, labels and prompts"
            raise ValueError(f"data.group {rules.group!r} is no column of {rules.labels}, which has {columns}.")
        or_class = ", or of classes that are not used" if classes else ""
        self.leave(found.passed_over, f"images that the table does not name{or_class}")
        return found

    def parts_of(self, table: Labelled, where: str, wanted: Collection[str]) -> list[str]:
        """The split of each image of a table, in the words used here; [] where the table has none.

        Without rows of test those of validation are the test set, as of folders. Where is what errors call the table.
        If all is wanted, a table whose rows are all of one split has none, too.
        Raises: ValueError: a row of another split or of none, or no row of train or test where that is wanted.
        """
        values = [value.strip() for value in table.columns.get("split", ())]
        said = [_SPLIT_OF.get(value.lower(), "") for value in values]
        if "all" in wanted and len(set(values)) < 2:
            return []
        if not any(values):
            tops = sorted({name.split("/")[0] for name in table.names})
            if len({_SPLIT_OF[top.lower()] for top in tops if top.lower() in _SPLIT_OF}) > 1:
                self.said += [f"The table has no column split: images of {listed(map(repr, tops))} are divided anew."]
            return []
        if "test" not in said:
            said = ["test" if part == "validation" else part for part in said]
        if not all(said) or {"train", "test"} & set(wanted) - set(said):
            shown = listed([*map(repr, sorted(set(values)))], 10)
            raise ValueError(
                f"Got the values {shown} in the column split of {where}, expected train and test (or validation in "
                f"its place, or besides) and no other ({', '.join(_SPLIT_OF)}, in any case). Correct the column, or "
                "remove it: a fifth of each class is then held out."
            )
        return said

    def tabled(self, table: Labelled, parts: Sequence[str], group: str, splits: Collection[str]) -> None:
        """Adds the files of a table that are of some splits, by class and name, and the group of each."""
        self.inside = {part: "" for part in sorted(set(parts) & {*splits})}
        groups, captions = table.columns.get(group.lower(), ()), table.prompts or [""] * len(table.names)
        of_each = (parts or [""] * len(table.names), table.labels, table.names, groups or table.names, captions)
        for part, label, name, of_group, caption in sorted(zip(*of_each, strict=True)):
            if part and part not in splits:
                continue
            self.add(part, table.class_names[label], [(name, row_of(self.root / name))])
            self.groups.append(of_group or name)
            self.captions += [caption] if table.prompts else []

    def _look_into(self, inside: str) -> list[tuple[str, tuple[int, int, int]]]:
        files = []
        with os.scandir(os.path.join(self.root, inside)) as entries:
            for entry in entries:
                name = os.path.join(inside, entry.name)
                if is_system(entry.name):
                    continue
                if is_image(entry.name):
                    files.append((name, row_of(entry)))
                elif _is_folder(entry):
                    below = (os.path.join(folder, file) for folder, _, some in os.walk(entry.path) for file in some)
                    for path in below:
                        relative = os.path.relpath(path, self.root)
                        if is_image(path) and not is_system(relative):
                            self._pass(_DEEPER, relative)
                else:
                    self._pass(_kind(entry.name), name)
        return files

    def _pass(self, kind: str, name: str) -> None:
        self.passed_over[kind].append(name)

    def refuse_empty(self, empty: Mapping[str, Sequence[str]]) -> None:
        """Refuses class folders without an image, all at once, and says where images seem to lie.

        Args: empty: of each split its classes.
        """
        if set(self.inside.values()) == {""} and "" not in self.inside:  # splits that a table tells
            shown = listed([f"{name!r} in {split}" for split, names in empty.items() for name in names])
            raise ValueError(
                f"Got a table for {self.root} without an image of {shown}, expected each class in each split. Correct "
                f"its column split{_SKIP}, or list the other classes in data.classes."
            )
        places = [os.path.join(self.inside[split], name) for split, names in empty.items() for name in names]
        below = [name for name in self.passed_over[_DEEPER] if any(name.startswith(f"{place}/") for place in places)]
        other = [name for name in self.passed_over[EXTRA] if os.path.dirname(name) in places]
        said = f" {len(other):,} {EXTRA} lie there." if other else ""
        if below:
            deeper = sorted({os.path.dirname(name) for name in below})
            above = [Path(os.path.dirname(folder)) for folder in deeper]
            holds = min(above, key=lambda path: _SPLIT_OF.get(path.name.lower()) != "train")
            splits = sorted(filter(None, self.inside.values()))
            if holds.name.lower() in _SPLIT_OF and holds.parent.name:
                holds = holds.parent
            remedy = f"give the folder that holds them, such as {self.root / holds}"
            if splits:
                remedy = f"move them up into {listed([str(self.root / split) for split in splits])}"
            said += f" Images lie deeper, in {listed(map(repr, deeper))}: if these are the classes, {remedy}."
        raise ValueError(
            f"Got no image in {listed([str(self.root / place) for place in places])}, expected at least one a class "
            f"({', '.join(suffixes())}). Fill or remove the folders{_SKIP}.{said}"
        )

    def notes(self, used: Collection[str]) -> list[str]:
        """What is passed over, counted and named, but for files that are used; and what else is to be said."""
        over = sorted((kind, sorted(set(names) - {*used})) for kind, names in self.passed_over.items())
        passed = [f"Passed over, {kind}: {len(names):,} ({listed(map(repr, names))})." for kind, names in over if names]
        return passed + self.said


def _kind(name: str, where: str = "") -> str:
    if needs_extra(name):
        return EXTRA
    return f"{'images' if is_image(name) else 'files that are no images by their suffix'} {where}".strip()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_bare(folder: Path) -> bool:
    """Whether a folder holds something, and system files alone."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        first = next(entries, None)
        return first is not None and is_system(first.name) and all(is_system(entry.name) for entry in entries)
    return False  # what cannot be listed is refused where it is used


def row_of(file: Path | os.DirEntry[str]) -> tuple[int, int, int]:
    """What the file system says of a file; zeros where it says nothing, so that the scan does."""
    try:
        return stat_row(file.stat())
    except OSError:
        return 0, 0, 0


def _looked_at(listing: _Listing, classes: Sequence[str], rules: Rules, since_ns: int, by_list: bool) -> Folder:
    """Decodes all files, and leaves out what cannot be read, and classes that are then empty in a split.

    Raises: ValueError: there is such, and the rules do not skip it.
    """
    rows, numbers = np.array(listing.rows, np.int64).reshape(-1, 3), {name: c for c, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in listing.labels], np.int32)
    if not labels.size:
        listing.refuse_empty(dict.fromkeys(listing.inside, classes))
    names, parts = np.array(listing.names, object), np.array(listing.parts, object)
    members = Members(listing.root, tuple(listing.names))
    found = scan_once(
        members, listing.names, rows, rules.reading, since_ns, f"{listing.root.resolve()}, {rules.reading}"
    )
    groups = np.unique(listing.groups, return_inverse=True)[1] if rules.group else None
    captions = np.array(listing.captions, object) if listing.captions else None
    given = (listing.root, tuple(classes), names, labels, parts, rules, found, rows, since_ns, by_list)
    folder = Folder(*given, groups, captions)
    bad = np.flatnonzero(found.reasons != "")
    if bad.size and rules.on_bad == "refuse":
        refuse_bad(names[bad].tolist(), found.reasons[bad].tolist(), members, _SKIP)
    skipped = tuple(f"{name} ({reason})" for name, reason in zip(names[bad], found.reasons[bad], strict=True))
    folder = replace(folder.take(np.flatnonzero(found.reasons == "")), skipped=skipped)
    empty = {p: np.setdiff1d(np.arange(len(classes)), folder.labels[folder.parts == p]) for p in listing.inside}
    dropped = np.unique(np.concatenate([*empty.values(), np.empty(0, np.int64)])).astype(np.int64)
    if dropped.size and (rules.on_bad == "refuse" or dropped.size == len(classes)):
        listing.refuse_empty({part: [classes[c] for c in them] for part, them in empty.items()})
    return _without_classes(folder, dropped, "no image")


def _without_classes(folder: Folder, dropped: np.ndarray, reason: str) -> Folder:
    """Leaves classes out, by their numbers."""
    if not dropped.size:
        return folder
    names = np.array(folder.class_names, object)
    kept = np.setdiff1d(np.arange(names.size), dropped)
    number = np.full(names.size, -1, np.int32)
    number[kept] = np.arange(kept.size)
    skipped = (*folder.skipped, *(f"class {name} ({reason})" for name in names[dropped]))
    folder = folder.take(np.flatnonzero(number[folder.labels] >= 0))
    return replace(folder, class_names=tuple(names[kept].tolist()), labels=number[folder.labels], skipped=skipped)


def _divided(folder: Folder, test_fraction: float, keys: Mapping[str, int]) -> Folder:
    """Splits each class into train and test, by its key; what looks the same stays together if the rules say so.

    Raises: ValueError: a class of one image, or one whose images all look the same.
    """
    few = np.flatnonzero(np.bincount(folder.labels, minlength=len(folder.class_names)) < 2)
    if few.size and folder.rules.on_bad == "refuse":
        where = listed([str(folder.root / folder.class_names[c]) for c in few])
        raise ValueError(
            f"Got one image in {where}, expected two and up to split test images off. Add images{_SKIP}, or list "
            "the other classes in data.classes."
        )
    folder = _without_classes(folder, few, "one image")
    groups = folder.groups
    if folder.rules.near_duplicates == "together" and folder.scan.pairs is not None:
        groups = joined(folder.scan.pairs, np.arange(folder.labels.size) if groups is None else groups)
    names = folder.class_names
    try:
        is_test = held_out(folder.labels, test_fraction, [keys[name] for name in names], groups, names)
    except ValueError as error:
        raise ValueError(
            f"Got images in {folder.root} that cannot be split into train and test: {error}. Name another column in "
            "data.group, or give a test set of your own."
        ) from error
    return replace(folder, parts=np.where(is_test, "test", "train").astype(object), groups=groups)


def _apart(folder: Folder) -> Folder:
    """Finds images of a held-out set that another split has, too, or that are in two classes; and parts them if asked.

    Copies that are left are then of one group, so that a validation set that is cut later does not divide them.

    Raises: ValueError: a group that a table's own splits divide, or a class of a split whose images are all left out.
    """
    if folder.groups is not None:
        parts = np.unique(folder.parts.astype(str), return_inverse=True)[1]
        of_groups = np.unique(np.stack([folder.groups, parts]), axis=1)[0]
        if both := int((np.bincount(of_groups) > 1).sum()):
            raise ValueError(
                f"Got {both:,} groups of data.group {folder.rules.group!r} in more than one split of "
                f"{folder.rules.labels}, expected one. Correct the column split, or leave it out."
            )
    pairs, rules, notes = folder.scan.pairs, folder.rules, []
    if pairs is None:
        return replace(folder, notes=(NOT_KNOWN,))
    of_two = pairs[folder.labels[pairs][:, 0] != folder.labels[pairs][:, 1]]
    if len(of_two):
        shown = ", ".join(f"{a!r} and {b!r}" for a, b in folder.names[of_two[:5]])
        notes += [f"Pairs of images that look the same and are of two classes: {len(of_two):,} ({shown})."]
    is_together = rules.near_duplicates == "together"
    then = LEFT_OUT if is_together else f". {_TOGETHER}"
    ranks = (folder.parts == "validation") + 2 * (folder.parts == "test")
    left_out, said = between(pairs, ranks, lambda i: repr(folder.names[i]), then)
    notes += said
    if is_together:
        keys = np.arange(folder.labels.size)
        groups = joined(pairs[~np.isin(pairs, left_out).any(axis=1)], keys if folder.groups is None else folder.groups)
        kept = replace(folder, groups=groups).take(np.setdiff1d(keys, left_out))
        for part in np.unique(folder.parts):
            before, after = (one.labels[one.parts == part] for one in (folder, kept))
            if gone := np.setdiff1d(before, after).tolist():
                raise ValueError(
                    f"Got images of {listed(repr(folder.class_names[c]) for c in gone)} in {part} of {folder.root} "
                    "that all look the same as one of another split, expected others, too. Add images, or leave "
                    "them in: data.near_duplicates='report'."
                )
        folder = kept
    return replace(folder, notes=tuple(notes))


def _said(folder: Folder, listing: _Listing, classes: str) -> Folder:
    """Logs what was passed over, skipped, or changed when it was read."""
    rules, root = folder.rules, folder.root.resolve()
    used = {os.path.relpath(Path(file).expanduser().resolve(), root) for file in (rules.captions, classes) if file}
    used |= {rules.labels, os.path.relpath(Path(rules.labels).expanduser().resolve(), root)}
    if rules.captions == FILES:
        used |= {f"{os.path.splitext(name)[0]}.txt" for name in listing.names}
    notes = [*listing.notes(used), *folder.scan.notes(folder.rules.reading), *folder.notes]
    alike: dict[str, list[str]] = defaultdict(list)
    for name in folder.class_names:
        alike[unicodedata.normalize("NFKC", name).casefold()].append(name)
    notes += [
        f"the classes {them} differ in case or in their Unicode form alone." for them in alike.values() if them[1:]
    ]
    left_out = [f"Left out (data.on_bad='skip'): {len(folder.skipped):,}, {listed(folder.skipped)}."]
    for note in (left_out if folder.skipped else []) + notes:
        _LOG.warning("%s: %s", folder.root, note)
    return replace(folder, notes=tuple(notes))
