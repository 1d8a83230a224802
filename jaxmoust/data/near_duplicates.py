"""Duplicates and near duplicates of photographs, compared at 9 x 8 grey pixels.

Copies that were scaled, compressed again or made brighter are found; cut or mirrored ones are not. Of the very small
picture its shape counts: 72 pixels as a vector of mean 0 and length 1, compared by correlation. Its lowest frequencies
are the perceptual hash by which near ones are looked up.
Source of the hash: the low frequencies of a small grey picture, as pHash takes them (Zauner 2010, section 3.2.1).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy

from jaxmoust.data.source import Source

MOST_PAIRS = 20_000_000  # that may look alike; of the pictures of one film all do
_ASKED = 256  # images that tell how many pairs there may be
_LEAST_CORRELATION = 0.99  # of copies; different photographs of one scene lie lower
_LEAST_CONTRAST = 2  # standard deviation, in levels; plain pictures look all alike
NEAR = 1 / 3  # of the usual distance to the nearest other image, in features
_AT_ONCE = 1024  # images whose distances to all are held at once
_ROUNDING = 1e-5  # of squared distances of vectors of length 1
_FREQUENCIES = 3  # of each direction; the mean, which is 0, aside

# Finds pairs of images that look alike in another way, among those of sources one after the other: int64 [p, 2].
Look = Callable[[Sequence[Source]], np.ndarray]


def near_duplicates(thumbs: np.ndarray) -> np.ndarray:
    """Finds the pairs of images that look the same.

    Args: thumbs: uint8 [n, 8, 9], grey pictures as `Scan.thumbs` has them.
    Returns: int64 [p, 2], places in thumbs, the lower one first.
    Raises: ValueError: more than MOST_PAIRS of them.
    """
    flat = thumbs.reshape(len(thumbs), math.prod(thumbs.shape[1:])).astype(np.float32)
    keys = np.flatnonzero(flat.std(axis=1) >= _LEAST_CONTRAST)
    shapes = flat[keys] - flat[keys].mean(axis=1, keepdims=True)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    # Of vectors of length 1 the distance tells the correlation; that of their lowest frequencies is no larger.
    low = scipy.fft.dctn(shapes.reshape(-1, *thumbs.shape[1:]), axes=(1, 2), norm="ortho")
    low = low[:, :_FREQUENCIES, :_FREQUENCIES].reshape(len(keys), _FREQUENCIES**2)[:, 1:]
    tree, radius = scipy.spatial.cKDTree(low), (2 - 2 * _LEAST_CORRELATION) ** 0.5
    some = low[:: max(1, len(low) // _ASKED)]
    num = len(low) / 2 * float(np.mean(tree.query_ball_point(some, radius, return_length=True) if len(low) else 0))
    if num > MOST_PAIRS:
        raise ValueError(f"some {num:,.0f} pairs of them may look the same, which is too many to compare")
    pairs = tree.query_pairs(radius, output_type="ndarray").astype(np.int64)
    alike = np.einsum("pk,pk->p", shapes[pairs[:, 0]], shapes[pairs[:, 1]]) >= _LEAST_CORRELATION
    return keys[pairs[alike]].reshape(-1, 2)


def near_by_features(features: np.ndarray, least: float = NEAR) -> np.ndarray:
    """Finds pairs of images that are much nearer to each other than images usually are to their nearest one.

    A backbone's features see through cuts and mirroring, which the small pictures do not. What is near depends on the
    network, so it is told by the images themselves.

    Args:
        features: [n, F], compared by their direction. least: a pair is near whose distance is less than so much of the
            median distance of an image to the nearest other one.
    Returns: int64 [p, 2], the lower place first.
    Raises: ValueError: more than MOST_PAIRS of them.
    """
    unit = (features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    starts = range(0, len(unit), _AT_ONCE)

    def squares(start: int) -> np.ndarray:
        """The squared distances of some images to those after the first of them; of an image to itself inf."""
        square = 2 - 2 * unit[start : start + _AT_ONCE] @ unit.T
        square[np.arange(len(square)), start + np.arange(len(square))] = np.inf
        return square

    closest = np.concatenate([squares(start).min(axis=1) for start in starts]) if len(unit) > 1 else np.zeros(0)
    limit = least**2 * max(float(np.median(closest)), _ROUNDING) if closest.size else 0.0
    found, count = [np.empty((0, 2), np.int64)], 0
    for start in starts if closest.size else ():
        one, other = np.nonzero(squares(start) < max(limit, _ROUNDING))
        pairs = np.stack([one + start, other], axis=1)
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
        count += len(found[-1])
        if count > MOST_PAIRS:
            raise ValueError(f"more than {MOST_PAIRS:,} pairs of them are near, which is too many to compare")
    return np.concatenate(found)


def with_looked(pairs: np.ndarray, look: Look | None, sources: Sequence[Source]) -> np.ndarray:
    """Adds the pairs of images of sources that a look finds to those that are known: int64 [p, 2], each once."""
    return np.unique(np.concatenate([pairs, look(sources)]), axis=0) if look else pairs


def joined(pairs: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Makes one group of all that pairs of images link: int64 [n], from groups int64 [n] and pairs int64 [p, 2]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num, (a, b) = int(groups.max(initial=-1)) + 1, groups[pairs.T]
    links = coo_array((np.ones(a.size, bool), (a, b)), (num, num))
    return connected_components(links, directed=False)[1].astype(np.int64)[groups]
