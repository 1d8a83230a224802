"""Captions of images: files of text beside them, a column of their table, or one JSON file.

What becomes of a caption (prompts, contexts) is not known here.
"""

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from jaxmoust.data.checks import listed
from jaxmoust.data.source import Source
from jaxmoust.data.sources.archive import FileImages
from jaxmoust.data.sources.labels import is_image
from jaxmoust.runtime.paths import read_json, read_text

FILES, TABLE = "files", "table"
_MOST_BYTES = 1 << 16  # of one caption


def captioned(source: Source, wanted: str) -> Source:
    """Gives every image of a source its caption, in one line.

    Args:
        source: the images, as they were opened.
        wanted: "files" (photo.txt beside photo.jpg), "table" (the column of data.labels), or the path of a JSON file:
            {file: caption}, files named as the folder's images are, or a list in the order of the images.
    Raises: ValueError: no such captions, captions of images that are not there, or images without one.
    """
    if wanted == FILES:
        texts = _beside(source)
    elif wanted == TABLE:
        if source.captions is None:
            raise ValueError("data.captions='table': expected a table (data.labels) with a column caption or text.")
        texts = source.captions.tolist()
    else:
        texts = _from_json(source, wanted)
    texts = [" ".join(text.split()) for text in texts]
    if lacking := [source.file(i) or f"number {i}" for i, text in enumerate(texts) if not text]:
        raise ValueError(
            f"data.captions {wanted!r}: {len(lacking):,} of {len(source):,} images of {source.name} have no caption "
            f"({listed(map(repr, lacking))}). Write one for each."
        )
    return replace(source, captions=np.array(texts, object))


def _named(source: Source) -> tuple[Path, tuple[str, ...]]:
    """The folder of a source's files, and their names in it."""
    if not isinstance(source.records, FileImages):
        raise ValueError(
            f"The images of {source.name} have no files of their own: give data.captions=FILE.json with a list, one "
            "caption for each image in their order."
        )
    return source.records.members.path, source.records.members.names


def _beside(source: Source) -> list[str]:
    root, names = _named(source)
    if not root.is_dir():
        raise ValueError(f"data.captions='files' with the archive {root}: unpack it, or give a JSON file.")
    asked = [PurePosixPath(name).with_suffix(".txt") for name in names]
    for folder in sorted({str(text.parent) for text in asked}):
        there = os.listdir(root / folder)
        stems = {Path(name).stem for name in there if is_image(name)}
        if alone := [n for n in sorted(there) if n.endswith(".txt") and n[0] != "." and Path(n).stem not in stems]:
            raise ValueError(
                f"data.captions='files': got captions of images that are not there in {root / folder} "
                f"({listed(map(repr, alone))}). Remove them, or put the images back."
            )

    def read(name: PurePosixPath) -> str:
        try:
            return read_text(root / name, _MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return ""

    return list(map(read, asked))


def _from_json(source: Source, path: str) -> list[str]:
    content = read_json(Path(path).expanduser())
    texts: list = [None]
    if isinstance(content, list | dict):
        texts = list(content.values()) if isinstance(content, dict) else content
    if not all(isinstance(text, str) for text in texts):
        what = "is not there" if content is None else "holds something else"
        raise ValueError(f"data.captions {path}: {what}, expected JSON, {{file: caption}} or a list of captions.")
    if isinstance(content, dict):
        root, names = _named(source)
        absent = sorted(name for name in set(content) - set(names) if not (root / name).is_file())
        if absent:
            raise ValueError(
                f"data.captions {path}: got captions of images that are not there in {root} "
                f"({listed(map(repr, absent))}). Name files as they lie in that folder, such as {names[0]!r}."
            )
        if others := sorted(name for name in set(content) - set(names) if not is_image(name)):
            raise ValueError(
                f"data.captions {path}: got captions of files that are not an image ({listed(map(repr, others))}). "
                f"Name images alone, such as {names[0]!r}."
            )
        return [content.get(name, "") for name in names]
    if len(texts) != len(source):
        raise ValueError(
            f"data.captions {path}: got {len(texts):,} captions for the {len(source):,} images of {source.name}, "
            "expected one for each in their order."
        )
    return texts
