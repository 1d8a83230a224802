"""Fills a synthetic set's folder with what a generator draws, shard by shard; which generator, it does not know."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.progress import progress

Draw = Callable[[np.ndarray, np.ndarray], Iterator[np.ndarray]]
"""(labels [N], indices [N]) -> blocks of images, uint8 [n, H, W, C], N in all, in order."""


class NotAnImage(RuntimeError):
    """What a generator drew is NaN or infinite, which no pixel is."""


def to_pixels(x: jax.Array) -> dict[str, jax.Array]:
    """Images [b, H, W, C], about [-1, 1], as uint8, and whether each was finite: cast alone, NaN would be black."""
    image = jnp.clip(jnp.round((x + 1.0) * 127.5), 0, 255).astype(jnp.uint8)
    return {"image": image, "finite": jnp.isfinite(x).all(axis=(1, 2, 3))}


def whole_images(drawn: Mapping[str, jax.Array], labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Fetches the first [n] images of what devices made by `to_pixels`, each [D, b, ...].

    Raises: NotAnImage: one of them is not finite.
    """
    image, finite = (np.asarray(drawn[name]) for name in ("image", "finite"))
    bad = np.flatnonzero(~finite.reshape(-1)[: len(labels)])
    if bad.size:
        raise NotAnImage(
            f"{bad.size} of {len(labels)} images came out NaN or infinite, first number {indices[bad[0]]} of class "
            f"{labels[bad[0]]}. Compute in float32 or bfloat16 instead of float16, take less guidance, or see whether "
            "the generator's training diverged. Whole shards stay."
        )
    return image.reshape(-1, *image.shape[2:])[: len(labels)]


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
        NotAnImage: what was drawn is not finite. stop.Stopped: asked to stop; whole shards stay.
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
    with progress(len(labels), unit="images", title="sample") as bar:
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
