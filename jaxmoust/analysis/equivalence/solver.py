"""Least squares in two parameters for many data sets at once: a grid, finer grids, then Gauss and Newton's steps."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

NUM_ZOOMS, NUM_NEWTON = 6, 12
STRIDES = np.array([0.0, 0.03, 0.2, 1.0, 3.0])  # of a Gauss-Newton step; 0 keeps the point, so that nothing gets worse
NUDGE = 1e-5  # of the grid's pitch, for slopes


def least_squares(
    residuals: Callable[[NDArray, NDArray], NDArray], w_grid: NDArray, u_grid: NDArray, num_sets: int
) -> NDArray[np.float64]:
    """Returns the sum of squares and where it is smallest, [D, 3]: (sum, w, u), inside the grids' ends.

    The grid finds the right valley; 5 x 5 grids around its best point, of half the pitch each time, its floor; and
    Gauss-Newton steps follow the floor where it is narrow and oblique, which grids do badly.

    Args:
        residuals: of data set d at its own points, (w [D, P], u [D, P]) -> [D, P, C].
        w_grid, u_grid: rising; a w_grid of one value keeps w there.
        num_sets: D.
    """

    def squares(w, u):
        return np.square(residuals(w, u)).sum(axis=-1)

    def best_of(w, u):
        sums = squares(w, u)
        best = sums.argmin(axis=1)[:, None]
        return np.concatenate([np.take_along_axis(x, best, axis=1) for x in (sums, w, u)], axis=1)

    at = np.full((num_sets, 3), np.inf)
    for w in w_grid:  # one column at a time, for the memory
        of_column = best_of(np.full((num_sets, len(u_grid)), w), np.broadcast_to(u_grid, (num_sets, len(u_grid))))
        at = np.where(of_column[:, :1] < at[:, :1], of_column, at)
    pitch = np.array([np.ptp(grid) / max(len(grid) - 1, 1) for grid in (w_grid, u_grid)])
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)

    def inside(w, u):
        return np.clip(w, w_grid[0], w_grid[-1]), np.clip(u, u_grid[0], u_grid[-1])

    for i in range(1, NUM_ZOOMS + 1):
        around = steps * pitch / 2**i
        at = best_of(*inside(at[:, 1:2] + around[:, 0], at[:, 2:] + around[:, 1]))
    for _ in range(NUM_NEWTON):
        step = _newton_step(residuals, at, pitch)
        at = best_of(*inside(at[:, 1:2] + STRIDES * step[:, :1], at[:, 2:] + STRIDES * step[:, 1:]))
    return at


def _newton_step(residuals: Callable, at: NDArray, pitch: NDArray) -> NDArray[np.float64]:
    """The Gauss-Newton step [D, 2] from the points `at`, slopes by differences towards the inside of the grid."""
    nudge = NUDGE * pitch
    w = at[:, 1:2] + np.array([0.0, nudge[0], 0.0])
    u = at[:, 2:] + np.array([0.0, 0.0, nudge[1]])
    r = residuals(w, u)
    slope = (r[:, 1:] - r[:, :1]) / np.maximum(nudge, 1e-300)[:, None]  # [D, 2, C]
    normal = slope @ slope.transpose(0, 2, 1)
    # A direction without a slope gets no step: a ridge far below any slope that matters.
    normal += (1e-9 * np.trace(normal, axis1=1, axis2=2) + 1e-12)[:, None, None] * np.eye(2)
    return -np.linalg.solve(normal, slope @ r[:, 0, :, None])[..., 0]
