"""Nearest neighbours among many feature vectors, exactly, in tiles: no matrix of all distances is ever held.

Distances come from one float32 matrix product a tile, so that a modest BLAS is what bounds the time; of each tile only
the few entries that can still be among a row's nearest are looked at.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

TILE = 2048  # rows and columns of a tile: 16 MiB
LARGEST = 1e15  # of a feature
_GROUPS = 64


def check_features(features: ArrayLike, name: str, num_features: int | None = None) -> NDArray[np.float32]:
    """Returns features as float32 [N, F].

    Args:
        name: what errors call them. num_features: F of what they will be compared with, if known.
    Raises: ValueError: not two axes, none, NaN, infinite or huge (the first such image is named), or another F.
    """
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"{name}: got features of shape {features.shape}; allowed [N, F], neither empty")
    if num_features is not None and features.shape[1] != num_features:
        raise ValueError(
            f"{name}: got {features.shape[1]} features an image; allowed {num_features}, as those it is compared with; "
            "take all of them from one extractor"
        )
    wrong = np.flatnonzero(~(np.abs(features) <= LARGEST).all(axis=1))
    if wrong.size:
        raise ValueError(
            f"{name}: got NaN, infinite or huge features at image {wrong[0]} ({wrong.size} such of {len(features)}); "
            f"allowed numbers up to {LARGEST:.0e}, whose squares can be added; extract them in float32, or leave these "
            "images out and say so"
        )
    return features


def centred(*sets: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Takes the mean of the first set off all of them: distances stay, and lose less to rounding."""
    mean = sets[0].mean(axis=0, dtype=np.float64).astype(np.float32)
    return [x - mean for x in sets]


def tiles(
    a: NDArray[np.float32], b: NDArray[np.float32], upper: bool = False
) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Walks over the squared distances of a [N, F] and b [M, F]: (rows, columns, float32 tile).

    A tile is |a|^2 + |b|^2 - 2 a.b, which rounding may leave slightly below 0; it is overwritten by the next.

    Args:
        upper: of a with itself only: the tiles on and above the diagonal.
    """
    of_a, of_b = (np.einsum("nf,nf->n", x, x) for x in (a, b))
    memory = np.empty((min(TILE, len(a)), min(TILE, len(b))), np.float32)
    for i in range(0, len(a), TILE):
        rows = slice(i, min(i + TILE, len(a)))
        scaled = -2 * a[rows]
        for j in range(i if upper else 0, len(b), TILE):
            columns = slice(j, min(j + TILE, len(b)))
            tile = memory.reshape(-1)[: len(scaled) * (columns.stop - j)].reshape(len(scaled), -1)
            np.matmul(scaled, b[columns].T, out=tile)
            tile += of_a[rows, None]
            tile += of_b[columns]
            yield rows, columns, tile


class Nearest:
    """The k smallest squared distances of each row that were seen so far, ascending, and their columns.

    Args: num_rows: N. k: how many to keep; places that nothing has filled hold infinity and -1.
    """

    def __init__(self, num_rows: int, k: int):
        self.squared = np.full((num_rows, k), np.inf, np.float32)
        self.index = np.full((num_rows, k), -1, np.int64)

    def see(self, rows: slice, first_column: int, tile: NDArray[np.float32]) -> None:
        """Takes in a tile [r, c] of some rows, whose columns count from first_column."""
        k = self.squared.shape[1]
        # No entry above the k-th best so far, or above the k-th smallest minimum of groups of columns, is among the k.
        bound, size = self.squared[rows, -1], tile.shape[1] // _GROUPS
        if size > 1 and k <= _GROUPS and np.isinf(bound).any():
            lowest = np.minimum.reduce(tile[:, : size * _GROUPS].reshape(len(tile), size, _GROUPS), axis=1)
            bound = np.minimum(bound, np.partition(lowest, k - 1, axis=1)[:, k - 1])
        place = np.flatnonzero(tile <= bound[:, None])
        row, column = np.divmod(place, tile.shape[1])
        value = tile.reshape(-1)[place]
        order = np.lexsort((value, row))
        row, column, value = row[order], column[order], value[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        row, column, value, rank = (x[rank < k] for x in (row, column, value, rank))
        squared = np.full((len(tile), 2 * k), np.inf, np.float32)
        index = np.full((len(tile), 2 * k), -1, np.int64)
        squared[:, :k], index[:, :k] = self.squared[rows], self.index[rows]
        squared[row, k + rank], index[row, k + rank] = value, first_column + column
        best = np.argsort(squared, axis=1, kind="stable")[:, :k]
        self.squared[rows] = np.take_along_axis(squared, best, axis=1)
        self.index[rows] = np.take_along_axis(index, best, axis=1)


def nearest_others(x: NDArray[np.float32], k: int) -> Nearest:
    """Finds the k nearest other members of a set [N, F], N > k; each pair is computed once."""
    found = Nearest(len(x), k)
    for rows, columns, tile in tiles(x, x, upper=True):
        if rows.start == columns.start:
            np.fill_diagonal(tile, np.inf)
            found.see(rows, columns.start, tile)
        else:
            found.see(rows, columns.start, tile)
            found.see(columns, rows.start, np.ascontiguousarray(tile.T))
    return found


def nearest(queries: NDArray[np.float32], base: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Finds the nearest of base [M, F] to each of queries [N, F]: (distances [N], indices [N]).

    Which one is decided in float32; its distance is then computed from the difference in float64, so that a copy is at
    0 and not at the rounding of two long vectors.
    """
    found = Nearest(len(queries), 1)
    for rows, columns, tile in tiles(*centred(queries, base)):
        found.see(rows, columns.start, tile)
    index = found.index[:, 0]
    distance = np.empty(len(queries))
    for i in range(0, len(queries), TILE):
        rows = slice(i, i + TILE)
        distance[rows] = np.linalg.norm(queries[rows].astype(np.float64) - base[index[rows]], axis=1)
    return distance, index
