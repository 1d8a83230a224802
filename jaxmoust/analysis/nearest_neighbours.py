"""Nearest neighbours among many feature vectors, exactly, in tiles: no matrix of all distances is ever held.

Distances come from one float32 matrix product a tile, so that a modest BLAS is what bounds the time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Features = NDArray[np.float32]

TILE = 2048  # rows and columns of a tile: 16 MiB
LARGEST = 1e15  # of a feature


def check_features(features: ArrayLike, name: str, num_features: int | None = None) -> Features:
    """Returns features as float32 [N, F].

    Args:
        name: what errors call them. num_features: F of what they will be compared with, if known.
    Raises: ValueError: not two axes, none, NaN, infinite or huge (the first such image is named), or another F.
    """
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"{name}: got features of shape {features.shape}, expected [N, F], neither empty.")
    if num_features is not None and features.shape[1] != num_features:
        raise ValueError(
            f"{name}: got {features.shape[1]} features an image, expected {num_features}, as those it is compared "
            "with. Take all of them from one extractor."
        )
    wrong = np.flatnonzero(~(np.abs(features) <= LARGEST).all(axis=1))
    if wrong.size:
        raise ValueError(
            f"{name}: got NaN, infinite or huge features at image {wrong[0]} ({wrong.size} such of {len(features)}), "
            f"expected numbers up to {LARGEST:.0e}, whose squares can be added. Extract them in float32, or leave "
            "these images out and say so."
        )
    return features


def centred(a: Features, b: Features) -> tuple[Features, Features]:
    """Takes the mean of the first set off both: distances stay, and lose less to rounding."""
    mean = a.mean(axis=0, dtype=np.float64).astype(np.float32)
    return a - mean, b - mean


def tiles(a: Features, b: Features, upper: bool = False) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Walks over the squared distances of a [N, F] and b [M, F]: (rows, columns, float32 tile).

    A tile is |a|^2 + |b|^2 - 2 a.b, which rounding may leave slightly below 0.

    Args:
        upper: of a with itself only: the tiles on and above the diagonal.
    """
    of_a, of_b = (np.einsum("nf,nf->n", x, x) for x in (a, b))
    for i in range(0, len(a), TILE):
        rows = slice(i, i + TILE)
        scaled = -2 * a[rows]
        for j in range(i if upper else 0, len(b), TILE):
            columns = slice(j, j + TILE)
            tile = scaled @ b[columns].T
            tile += of_a[rows, None]
            tile += of_b[columns]
            yield rows, columns, tile


def nearest_others(x: Features, k: int) -> NDArray[np.float32]:
    """Finds the squared distances to the k nearest other members of a set [N, F], N > k: [N, k], ascending.

    Each pair is computed once.
    """
    lowest = np.full((len(x), k), np.inf, np.float32)

    def see(rows: slice, tile: NDArray[np.float32]) -> None:
        if tile.shape[1] > k:
            tile = np.partition(tile, k - 1, axis=1)[:, :k]
        lowest[rows] = np.sort(np.concatenate([lowest[rows], tile], axis=1), axis=1)[:, :k]

    for rows, columns, tile in tiles(x, x, upper=True):
        if rows == columns:
            np.fill_diagonal(tile, np.inf)
        else:
            see(columns, tile.T)
        see(rows, tile)
    return lowest


def nearest(queries: Features, base: Features) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Finds the nearest of base [M, F] to each of queries [N, F]: (distances [N], indices [N]).

    Which one is decided in float32; its distance is then computed from the difference in float64, so that a copy is at
    0 and not at the rounding of two long vectors.
    """
    lowest, index = np.full(len(queries), np.inf, np.float32), np.zeros(len(queries), np.int64)
    for rows, columns, tile in tiles(*centred(queries, base)):
        best = tile.argmin(axis=1)
        squared = tile[np.arange(len(tile)), best]
        index[rows] = np.where(squared < lowest[rows], columns.start + best, index[rows])
        lowest[rows] = np.minimum(squared, lowest[rows])
    distance = np.empty(len(queries))
    for i in range(0, len(queries), TILE):
        rows = slice(i, i + TILE)
        distance[rows] = np.linalg.norm(queries[rows].astype(np.float64) - base[index[rows]], axis=1)
    return distance, index
