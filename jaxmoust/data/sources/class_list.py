"""Class lists: which classes of a data set are used, and in which order, given by a text file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxmoust.data.checks import listed
from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.runtime.paths import read_text

_MOST_BYTES = 1 << 22  # a hundred thousand names


def read_class_list(path: str) -> tuple[str, ...]:
    """Reads class names, one a line, in their order; blank lines and space around a name do not count.

    Raises: ValueError: no such file, one that is no text, no name in it, or a name that stands twice.
    """
    try:
        lines = read_text(Path(path).expanduser(), _MOST_BYTES).splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Got the class list {path}, which cannot be read ({error}), expected a text file with one class name "
            f"a line. Correct the path."
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise ValueError(f"Got the class list {path} without a name, expected one class name a line. Fill it.")
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"Got the class list {path} with {doubled} more than once, expected once. Remove the rest.")
    return names


def chosen_classes(wanted: Sequence[str], known: Sequence[str], where: str) -> tuple[str, ...]:
    """The classes to use, in the order of their labels: those wanted, or all that are known.

    Raises: ValueError: classes that the data set does not have, with their names.
    """
    if unknown := [name for name in wanted if name not in set(known)]:
        raise ValueError(
            f"Got a class list with {listed(map(repr, unknown), 10)}, expected the {len(known)} classes of {where}, "
            f"such as {', '.join(map(repr, known[:5]))}. Correct the list."
        )
    return tuple(wanted or known)


def select_classes(source: Source, names: Sequence[str]) -> Source:
    """Keeps the images of the named classes, in their order, and numbers the classes as they are named.

    Raises: ValueError: a class that the source does not have, or no image left.
    """
    names = chosen_classes(names, source.class_names, source.name)
    number = np.full(len(source.class_names), -1, np.int32)
    number[[source.class_names.index(name) for name in names]] = np.arange(len(names))
    labels = number[source.labels]
    keys = np.flatnonzero(labels >= 0)
    digest = digest_bytes(b"classes", source.digest.encode(), repr(names).encode())
    kept = source.subset(keys)
    soft = kept.soft and kept.soft.renumbered(number, source.name)
    return Source(source.name, labels[keys], names, source.shape, kept.records, digest, soft=soft)
