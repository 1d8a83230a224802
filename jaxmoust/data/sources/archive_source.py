"""Encoded images of a folder or an archive as a source: each decoded once when it is opened, and when it is read.

CIFAKE's real images are such a source; so is whatever an import reads.
"""

import logging
from dataclasses import replace

import numpy as np

from jaxmoust.data.checks import check_choice, listed
from jaxmoust.data.image import AS_IT_IS, Reading
from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.data.sources.archive import FileImages, Members, open_members
from jaxmoust.data.sources.labels import Labelled, by_cifake_name
from jaxmoust.data.sources.scan import Scan, refuse_bad, scan

_LOG = logging.getLogger(__name__)


def readable_source(
    members: Members, files: Labelled, name: str, reading: Reading, on_bad: str = "refuse", remedy: str = ""
) -> tuple[Source, Labelled]:
    """Opens labelled files as a source; every one is read and decoded here, so that bad ones are found now.

    Args:
        reading: how pixels become 8 opaque bits; what it changes is said.
        on_bad: "refuse", or "skip": without what cannot be read, which is named with its reason.
        remedy: what errors say besides that bad files be replaced.
    Returns: (the images, their files).
    Raises: ValueError: files that cannot be read, all of them at once: not skipped, or there are no others.
    """
    found = scan(members, files.names, reading)
    bad = np.flatnonzero(found.reasons != "")
    if on_bad == "refuse" or bad.size == len(files.names):
        refuse_bad([files.names[i] for i in bad], found.reasons[bad].tolist(), members, remedy)
    if bad.size:
        keep = np.flatnonzero(found.reasons == "")
        skipped = tuple(f"{files.names[i]} ({found.reasons[i]})" for i in bad)
        files, found = replace(files.take(keep.tolist()), skipped=skipped), found.take(keep)
    labels = np.array(files.labels, np.int32)
    header = [repr((files.class_names, files.names, found.channels)).encode(), *filter(None, [found.applied(reading)])]
    digest = digest_bytes(*header, labels.tobytes(), found.hashes.tobytes())
    for note in changes_said(found, reading):
        _LOG.warning("%s: %s", members.path, note)
    images = FileImages(Members(members.path, files.names), found.channels, reading)
    return Source(name, labels, files.class_names, found.shape, images, digest, num_skipped=bad.size), files


def changes_said(found: Scan, reading: Reading) -> list[str]:
    """Sentences for the user about what reading changes, the turning of photographs among it."""
    turned = int(found.changes[:, 0].sum())
    said = [f"Photographs that are turned upright, as their EXIF says: {turned:,}."] if turned else []
    return [*found.notes(reading), *said]


def cifake(split: str, path: str, part: str = "REAL", reading: Reading = AS_IT_IS, on_bad: str = "refuse") -> Source:
    """One half of CIFAKE, 32 x 32 in colour: 50,000 images to train and 10,000 to test, of CIFAR-10's ten classes.

    Args:
        split: "train" or "test".
        path: the folder or the zip archive as it was published.
        part: "REAL" (CIFAR-10's own images, as JPEG) or "FAKE" (made by Stable Diffusion 1.4).
        reading: how pixels become 8 opaque bits.
        on_bad: "refuse", or "skip" to go on without what cannot be read, which is said.
    Raises: ValueError: another folder or archive, a name that does not contain its class, an unreadable image.
    Source: Bird and Lotfi 2023 (2303.14126).
    """
    check_choice("split", split, ("train", "test"), " of cifake")
    members = open_members(path)
    files = by_cifake_name(members.names, str(path), split, part)
    name = f"cifake_{part.lower()}/{split}"
    source, files = readable_source(members, files, name, reading, on_bad, ", or set data.on_bad='skip'")
    if files.skipped:
        _LOG.warning("%s: Left out (on_bad='skip'): %d, %s.", name, len(files.skipped), listed(files.skipped))
    return source
