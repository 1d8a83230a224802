"""What looks alike to a public network, in all splits and classes of a data set; and the table that parts it."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from jaxmoust.data.near_duplicates import joined, near_by_features
from jaxmoust.data.source import Source
from jaxmoust.jobs.parts.streams import evaluation_stream, prepared_form
from jaxmoust.report.findings import inert
from jaxmoust.runtime import parallel
from jaxmoust.runtime.paths import atomic_write
from jaxmoust.train import features

BATCH_SIZE = 32
MOST_NAMED = 5


def look_alike(splits: Mapping[str, Source], backbone: str, groups: str = "", divided: bool = False) -> Iterator[str]:
    """Compares all images by a network's features, and says which pairs are near.

    Args:
        backbone: a folder, a file, or a name on the hub.
        groups: a CSV file to write, with the columns file, label and group, for data.labels and data.group. Of splits
            of the data set's own it has a column split, too, and the images that look like one of test are left out.
        divided: whether the splits are the data set's own.
    Raises: ValueError: no such network, or images without files whose groups are asked for.
    """
    machine, extractor = parallel.Machine.local(), features.of_vit(backbone)
    config = {"eval": {"batch_size": BATCH_SIZE * machine.num_devices}}
    extract = features.make_extract(extractor, machine)
    assert extractor.preprocessing, "a public network has one"
    form = prepared_form(extractor.preprocessing)
    streams = [evaluation_stream(source, form, config, machine) for source in splits.values()]
    vectors = np.concatenate([extract(stream) for stream in streams])
    sources = [*splits.values()]
    files = [source.file(i) or f"{split} {i}" for split, source in splits.items() for i in range(len(source))]
    part = np.repeat([*splits], [len(source) for source in sources])
    names = [source.class_names[label] for source in sources for label in source.labels]
    pairs = near_by_features(vectors)
    kinds = {
        "one of test and one of another split": ((part == "test")[pairs]).sum(axis=1) == 1,
        "of two classes": np.array(names)[pairs][:, 0] != np.array(names)[pairs][:, 1],
    }
    yield f"Pairs of images that look alike to {extractor.name}: {len(pairs):,}."
    for kind, which in kinds.items():
        if which.any():
            shown = "; ".join(f"{files[a]} and {files[b]}" for a, b in pairs[which][:MOST_NAMED])
            yield f"  {kind}: {which.sum():,} ({shown})"
    if groups:
        if not all(source.file(0) for source in sources):
            raise ValueError("--groups needs a folder of files: these images have no names. Leave it out.")
        group = joined(pairs, np.arange(len(files)))
        left = np.isin(group, group[part == "test"]) & (part != "test") & divided
        _write(Path(groups), [*zip(files, names, group, *([part] if divided else []), strict=True)], left)
        out = f"; left out: {left.sum():,} that look like one of test" if divided else ""
        yield f"{groups}: for data.labels, with data.group=group{out}"


def _write(path: Path, rows: list[tuple], left: np.ndarray) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", "group", "split"][: len(rows[0])])
    writer.writerows([[inert(value) for value in rows[i]] for i in np.flatnonzero(~left)])
    atomic_write(path, text.getvalue())
