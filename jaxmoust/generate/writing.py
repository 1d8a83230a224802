"""Fills a synthetic set's folder with what a generator samples, shard by shard; which generator, it does not know."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core.checks import require
from jaxmoust.core.diffusion.solvers import SOLVERS
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.progress import progress

Draw = Callable[[np.ndarray, np.ndarray], Iterator[np.ndarray]]
"""(labels [N], indices [N]) -> blocks of images, uint8 [n, H, W, C], N in all, in order."""
Columns = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]

PART_SECONDS = "seconds.part"  # the name of what each task leaves that wrote a part of a set, until it is complete
MOST_STEPS = 100_000  # the noise levels of all lie in the program; the published ones take up to 1,000


class NonFiniteImage(RuntimeError):
    """What a generator sampled is NaN or infinite, which no pixel is."""


def check_sampling(solver: str, num_steps: int, per_device_batch: int) -> None:
    """Refuses what no generator can sample with. Raises ValueError."""
    require(solver in SOLVERS, "sample.solver", solver, str(sorted(SOLVERS)))
    require(1 <= num_steps <= MOST_STEPS, "sample.num_steps", num_steps, f"whole numbers from 1 to {MOST_STEPS:,}")
    require(per_device_batch >= 1, "sample.per_device_batch", per_device_batch, "whole numbers from 1")


def image_keys(seed: jax.Array, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The keys of each image's starting noise and of its steps, [b] each, from its class and number within it."""
    key = jax.random.key(seed)
    fold = jax.vmap(lambda label, index: jax.random.fold_in(jax.random.fold_in(key, label), index))
    k_start, k_steps = jax.vmap(jax.random.split, out_axes=1)(fold(batch["label"], batch["index"]))
    return k_start, k_steps


def in_blocks(
    sample: Callable[[np.ndarray], Mapping[str, jax.Array]], labels: np.ndarray, indices: np.ndarray, block: int
) -> Iterator[np.ndarray]:
    """Samples the images (class, index) in order, in blocks of a fixed size; the last one is filled up.

    Args: sample: gives the images of these rows as `to_uint8` does, each [D, b, ...], block = D * b.
    Yields: uint8 [n, H, W, C].
    Raises: NonFiniteImage: one of them is not finite.
    """
    for start in range(0, len(labels), block):
        rows = np.arange(start, min(start + block, len(labels)))
        yield whole_images(sample(np.resize(rows, block)), labels[rows], indices[rows])


def to_uint8(x: jax.Array) -> dict[str, jax.Array]:
    """Images [b, H, W, C], about [-1, 1], as uint8, and whether each was finite: cast alone, NaN would be black."""
    image = jnp.clip(jnp.round((x + 1.0) * 127.5), 0, 255).astype(jnp.uint8)
    return {"image": image, "finite": jnp.isfinite(x).all(axis=(1, 2, 3))}


def whole_images(sampled: Mapping[str, jax.Array], labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Fetches the first [n] images of what devices made by `to_uint8`, each [D, b, ...].

    Raises: NonFiniteImage: one of them is not finite.
    """
    image, finite = (np.asarray(sampled[name]) for name in ("image", "finite"))
    bad = np.flatnonzero(~finite.reshape(-1)[: len(labels)])
    if bad.size:
        raise NonFiniteImage(
            f"{bad.size} of {len(labels)} images came out NaN or infinite, first number {indices[bad[0]]} of class "
            f"{labels[bad[0]]}. Compute in float32 or bfloat16 instead of float16, take less guidance, or see whether "
            "the generator's training diverged. Whole shards stay."
        )
    return image.reshape(-1, *image.shape[2:])[: len(labels)]


def write_missing(
    draw: Draw,
    spec: synthetic.SyntheticSpec,
    path: Path,
    record: Mapping[str, object],
    process_index: int = 0,
    process_count: int = 1,
    made_by: Mapping[str, Any] | None = None,
    prompts: Callable[[np.ndarray, np.ndarray], Sequence[str]] | None = None,
    columns: Columns | None = None,
) -> None:
    """Writes the shards of a set that are missing, and completes it when none is.

    Processes that share the folder take every `process_count`-th shard.

    Args:
        made_by: what its provenance says besides, as `finish` takes it.
        record: what is true of the images, which the spec must say of them: generator, guidance, steps.
        prompts: (labels, indices) -> the prompt of each image, where they differ within a class.
        columns: (labels, indices) -> what else is recorded of each image, as `write_shard` says.
    Raises:
        ValueError: a seed that is no uint32, a spec that says something else, or a folder that holds another set.
        NonFiniteImage: what was sampled is not finite. stop.Stopped: asked to stop; whole shards stay.
    """
    parallel.check_seed(spec.seed)
    false = [f"{k} {getattr(spec, k)!r}, not {v!r}" for k, v in record.items() if getattr(spec, k) != v]
    if false:
        raise ValueError(f"The set's spec would say of its images: {'; '.join(false)}. Make the spec of what is drawn.")
    mine = [s for s in synthetic.missing_shards(path, spec) if s % process_count == process_index]
    if mine:
        _write(draw, spec, path, mine, prompts, columns)
    if not synthetic.missing_shards(path, spec):
        synthetic.finish(path, spec, made_by, _of_all(spec, columns))


def _of_all(spec: synthetic.SyntheticSpec, columns: Columns | None) -> dict[str, np.ndarray] | None:
    return columns(*spec.labels_and_indices(0, spec.num_images)) if columns else None


def complete_set(
    write: Callable[[Path, int, int], None],
    path: Path,
    spec: synthetic.SyntheticSpec,
    machine: parallel.Machine,
    made_by: Mapping[str, Any] | None = None,
    columns: Columns | None = None,
) -> float:
    """Writes a set by all processes of a run, each its shards, and completes it once the last one has.

    Args: write: `write(path, i, k)` writes every k-th shard, from the i-th, that is missing.
    Returns: the seconds that tasks took which wrote parts of it before.
    Raises, in all processes: ValueError: some are missing, for instance since the processes write into folders of
        their own. stop.Stopped: one of them was asked to stop. parallel.FailedElsewhere: one of them failed.
    """
    with machine.together():
        write(path, machine.process_index, machine.process_count)
    with machine.together():
        if machine.primary and not synthetic.is_whole(path):  # a disk may have shown nobody the last shard of another
            synthetic.finish(path, spec, made_by, _of_all(spec, columns))
    return seconds_of_parts(path, machine)


def seconds_of_parts(path: Path, machine: parallel.Machine) -> float:
    """The seconds that tasks took which did parts of a job before; their notes of it are gone then.

    The primary process alone reads them, as it writes the result.
    """
    parts = [*path.glob(f"{PART_SECONDS}*")] if machine.primary else []
    seconds = sum(float(part.read_text()) for part in parts)
    for part in parts:
        part.unlink()
    return seconds


def _write(
    draw: Draw,
    spec: synthetic.SyntheticSpec,
    path: Path,
    shards: list[int],
    prompts: Callable | None,
    columns: Columns | None,
) -> None:
    ranges = [synthetic.shard_range(spec, shard) for shard in shards]
    labels, indices = (np.concatenate(part) for part in zip(*ranges, strict=True))
    waiting: list[np.ndarray] = []
    todo = list(zip(shards, ranges, strict=True))
    with stop.deferred(), progress(len(labels), unit="images", title="sample") as bar:
        for images in draw(labels, indices):
            waiting.append(images)
            bar.update(len(images))
            while todo and sum(map(len, waiting)) >= len(todo[0][1][0]):
                shard, wanted = todo.pop(0)
                ready, count = np.concatenate(waiting), len(wanted[0])
                asked, more = prompts(*wanted) if prompts else None, columns(*wanted) if columns else None
                synthetic.write_shard(path, spec, shard, ready[:count], asked, columns=more)
                waiting = [ready[count:]]
            if todo and parallel.stop_requested():
                raise stop.Stopped(f"Stopped on request with {len(todo)} shards to go; the same command continues.")
