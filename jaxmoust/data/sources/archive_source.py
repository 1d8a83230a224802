"""Encoded images of a folder or an archive as a source: each decoded once when it is opened, and when it is read.

CIFAKE's real images are such a source; so is whatever an import reads.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxmoust.data.checks import check_choice
from jaxmoust.data.image import decode_image
from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.data.sources.archive import FileImages, Members, open_members
from jaxmoust.data.sources.labels import Labelled, by_cifake_name

_NUM_THREADS = 8


def encoded_source(members: Members, files: Labelled, name: str) -> Source:
    """Opens labelled files as a source; every one is read and decoded here, so that a bad one is found now.

    Raises: ValueError: a file that cannot be read or decoded, with its name.
    """

    def read(file: str) -> tuple[tuple[int, ...], bytes]:
        data = members.read(file)
        return decode_image(data, members.called(file)).shape, hashlib.sha256(data).digest()

    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        shapes, hashes = zip(*threads.map(read, files.names), strict=True)
    channels = max(shape[2] for shape in shapes)
    sizes = {(height, width, channels) for height, width, _ in shapes}
    labels = np.array(files.labels, np.int32)
    digest = digest_bytes(repr((files.class_names, files.names, channels)).encode(), labels.tobytes(), b"".join(hashes))
    images = FileImages(Members(members.path, files.names), channels)
    return Source(name, labels, files.class_names, sizes.pop() if len(sizes) == 1 else None, images, digest)


def cifake(split: str, path: str, part: str = "REAL") -> Source:
    """One half of CIFAKE, 32 x 32 in colour: 50,000 images to train and 10,000 to test, of CIFAR-10's ten classes.

    Args:
        split: "train" or "test".
        path: the folder or the zip archive as it was published.
        part: "REAL" (CIFAR-10's own images, as JPEG) or "FAKE" (made by Stable Diffusion 1.4).
    Raises: ValueError: another folder or archive, a name that does not tell its class, an unreadable image.
    Source: Bird and Lotfi 2023 (2303.14126).
    """
    check_choice("split", split, ("train", "test"), " of cifake")
    members = open_members(path)
    files = by_cifake_name(members.names, str(path), split, part)
    return encoded_source(members, files, f"cifake_{part.lower()}/{split}")
