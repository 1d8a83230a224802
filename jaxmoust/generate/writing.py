"""Fills a synthetic set's folder with what a generator draws, shard by shard; which generator, it does not know."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxmoust.data import synthetic
from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.progress import Progress

Draw = Callable[[np.ndarray, np.ndarray], Iterator[np.ndarray]]
"""(labels [N], indices [N]) -> blocks of images, uint8 [n, H, W, C], N in all, in order."""


def write_missing(
    draw: Draw,
    spec: synthetic.SyntheticSpec,
    path: Path,
    process_index: int = 0,
    process_count: int = 1,
    versions: Mapping[str, str] | None = None,
    prompts: Callable[[np.ndarray, np.ndarray], Sequence[str]] | None = None,
) -> None:
    """Writes the shards of a set that are missing, and completes it when none is.

    Processes that share the folder take every `process_count`-th shard. `versions` of the packages go into its
    provenance.

    Args:
        prompts: (labels, indices) -> the prompt of each image, where they differ within a class.
    Raises:
        ValueError: a seed that is no uint32, or a folder that holds another set.
        stop.Stopped: asked to stop; whole shards stay.
    """
    parallel.check_seed(spec.seed)
    mine = [s for s in synthetic.missing_shards(path, spec) if s % process_count == process_index]
    if mine:
        _write(draw, spec, path, mine, prompts)
    if not synthetic.missing_shards(path, spec):
        synthetic.finish(path, spec, versions)


def _write(draw: Draw, spec: synthetic.SyntheticSpec, path: Path, shards: list[int], prompts: Callable | None) -> None:
    ranges = [synthetic.shard_range(spec, shard) for shard in shards]
    labels, indices = (np.concatenate(part) for part in zip(*ranges, strict=True))
    waiting: list[np.ndarray] = []
    todo = list(zip(shards, ranges, strict=True))
    with Progress(len(labels), unit="images", title="sample") as bar:
        for images in draw(labels, indices):
            waiting.append(images)
            bar.update(len(images))
            while todo and sum(map(len, waiting)) >= len(todo[0][1][0]):
                shard, wanted = todo.pop(0)
                ready, count = np.concatenate(waiting), len(wanted[0])
                synthetic.write_shard(path, spec, shard, ready[:count], prompts(*wanted) if prompts else None)
                waiting = [ready[count:]]
            if todo and stop.requested():
                raise stop.Stopped(f"Stopped on request with {len(todo)} shards to go; the same command continues.")
