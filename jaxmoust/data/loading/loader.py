"""Batches: sampler + pool + transforms as one Grain stream, and the exact stream of an evaluation.

One Grain element is one step's batch, made by a pure function of the step number: the state of a stream is
that number. Draws are computed for many small steps at once; where images come from is in image_store.py. Nothing
here knows a device; a process gives its index and takes its slice of the global batch.

Whoever has a Grain pipeline of their own needs none of this: a pool is a data source and a sampler a sampler of
`grain.DataLoader(data_source=pool, sampler=sampler, shard_options=grain.sharding.NoSharding(), worker_count=2)`.
Worker processes ask for absl's flags (in Grain 0.2.18): start them under `absl.app.run`, or after
`absl.flags.FLAGS.mark_as_parsed()`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import grain
import numpy as np

from jaxmoust.data.checks import check_whole
from jaxmoust.data.loading.image_store import Images, Transform, open_images
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.base import Sampler
from jaxmoust.data.source import Source

Batch = dict[str, np.ndarray]

_PREFETCH_STEPS = 4
_WORTH_A_THREAD_BYTES = 1 << 20  # to hand over a batch takes longer than to copy a smaller one (about 0.1 ms)
_DRAWS_AT_ONCE = 4096  # numpy takes hardly longer for so many than for a batch of 128


def _read_options(images: Images, batch_size: int, num_threads: int | None) -> grain.ReadOptions:
    """The threads that put batches of a process together."""
    if images.mapped or not images.only_gathers:
        threads = 2  # while one waits for the end of its batch, readers and disk have the next one's work
    else:
        threads = int(batch_size * np.prod(images.shape) > _WORTH_A_THREAD_BYTES)
    return grain.ReadOptions(threads if num_threads != 0 else 0, _PREFETCH_STEPS)


def _check_slice(batch_size: int, process_index: int, process_count: int) -> int:
    """Returns the number of examples of this process."""
    if not 0 <= process_index < process_count:
        raise ValueError(f"Got process {process_index} of {process_count}, expected 0 <= index < count.")
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"Got a global batch of {batch_size} for {process_count} processes, expected a positive multiple of "
            f"the number of processes. Change batch_size."
        )
    return batch_size // process_count


def train_stream(
    pool: Pool,
    sampler: Sampler,
    batch_size: int,
    *,
    image_px: int,
    channels: int,
    train_transform: Transform | None = None,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    decoded: str = "auto",
    map_dir: str | Path = "",
    num_threads: int | None = None,
    pixels: bool = True,
) -> grain.DatasetIterator:
    """Streams the training batches, one a step, without end.

    The global batch of step n holds the draws n * B to (n + 1) * B of the sampler, whatever the number of
    processes; process p takes the p-th part of it. `get_state` and `set_state` carry the step number and
    nothing else, so a state restores in another process and under another number of processes.

    Args:
        pool: made from sources.
        sampler: over the same pool.
        batch_size: B, of all processes together.
        image_px: side of the images.
        channels: 1 or 3.
        train_transform: what brings an image to that shape; by default `Resize`. A Grain RandomMap draws from
            a generator keyed by (sampler.seed, position of the draw).
        start_step: the step of the first batch.
        process_index: p.
        process_count: P; divides B.
        decoded: where decoded images are held: "auto", "memory", "map" or "none"; see `open_images`.
        map_dir: the folder of maps.
        num_threads: threads that read images; by default one a core, and at least 8; 0: everything happens in
            the thread that asks for a batch.
        pixels: False leaves the images out, for who holds them encoded and needs to know which were drawn.
    Returns: an iterator of dicts: image uint8 [B/P, image_px, image_px, channels], label int32 [B/P], source
        int32 [B/P] (place in pool.sources), index int32 [B/P] (place in that source), slot int32 [B/P] (place in
        the global batch); where labels are soft, second int32 and second_weight float32 [B/P], as `Soft` says.
    Raises: ValueError: a pool without images, a sampler of another pool, a batch that P does not divide, or what
        `open_images` refuses.
    """
    num = _check_slice(batch_size, process_index, process_count)
    if not pool.sources:
        raise ValueError("Got a pool made from labels, expected one with images. Use Pool.from_sources.")
    if sampler.pool != pool:
        raise ValueError(f"Got a sampler over {sampler.pool}, expected one over {pool}. Make it from that pool.")
    check_whole("start_step", start_step, 0)
    transform = train_transform or Resize(image_px, channels)
    shape = (image_px, image_px, channels)
    where = (decoded, map_dir) if pixels else ("none", "")
    images = open_images(pool.sources, transform, shape, *where, num_threads)
    slot = np.arange(process_index * num, (process_index + 1) * num, dtype=np.int32)
    slot.setflags(write=False)  # every batch carries this one array
    draws = _draws(pool, sampler, batch_size, process_index * num, num)

    def batch(step: int) -> Batch:
        source, place, label = draws(step)
        drawn = {"label": label, "source": source, "index": place.astype(np.int32), "slot": slot}
        if pool.soft:
            soft = pool.soft.take(pool.offsets[source] + place)
            drawn |= {"second": soft.second, "second_weight": soft.weight}
        if not pixels:
            return drawn
        start = step * batch_size + process_index * num
        return {"image": images.gather(source, place, sampler.seed, np.arange(start, start + num)), **drawn}

    num_steps = max(1, sys.maxsize // batch_size - _DRAWS_AT_ONCE)  # the last block of draws still fits into 63 bits
    steps = grain.MapDataset.range(num_steps)
    stream = iter(steps.map(batch).to_iter_dataset(_read_options(images, num, num_threads)))
    stream.set_state({"next_index": start_step})
    return stream


def _draws(
    pool: Pool, sampler: Sampler, batch_size: int, first: int, num: int
) -> Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Makes step -> (source int32, place in the source int64, label int32) [num] of this process's draws.

    The draws of several small steps are computed together: a call costs numpy's overhead, not its arithmetic.
    """
    num_steps = max(1, _DRAWS_AT_ONCE // batch_size)
    part = slice(first, first + num)

    @lru_cache(maxsize=4)  # threads may be in two neighbouring blocks
    def block(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start = number * num_steps * batch_size
        if num_steps > 1:
            keys = sampler.keys(start, start + num_steps * batch_size).reshape(num_steps, batch_size)[:, part]
        else:
            keys = sampler.keys(start + part.start, start + part.stop)[None]
        source = pool.source(keys)
        return source, keys - pool.offsets[source], pool.label(keys)

    def of_step(step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        number, row = divmod(step, num_steps)
        source, place, label = block(number)
        return source[row].copy(), place[row], label[row].copy()  # whoever gets a batch may write to it

    return of_step


def eval_stream(
    source: Source,
    batch_size: int,
    *,
    image_px: int,
    channels: int,
    process_index: int = 0,
    process_count: int = 1,
    decoded: str = "auto",
    map_dir: str | Path = "",
    num_threads: int | None = None,
    transform: Transform | None = None,
) -> "EvalStream":
    """Lists the batches of an evaluation: every image exactly once, in order, the last batch padded.

    Every process has the same number of batches, so that collectives meet.

    Args:
        source: N images.
        batch_size: B, of all processes together.
        image_px: side of the images; see `Resize`.
        channels: 1 or 3.
        process_index: p.
        process_count: P; divides B.
        decoded, map_dir, num_threads: as in `train_stream`.
        transform: what brings an image to that shape; by default `Resize`.
    Returns: ceil(N / B) dicts: image uint8 [B/P, image_px, image_px, channels], label int32 [B/P], mask float32
        [B/P], index int32 [B/P] (place in the source). Padding has mask 0, index -1, label 0 and a black image.
    Raises: ValueError: a batch that P does not divide, or what `open_images` refuses.
    """
    num = _check_slice(batch_size, process_index, process_count)
    shape, transform = (image_px, image_px, channels), transform or Resize(image_px, channels)
    images = open_images([source], transform, shape, decoded, map_dir, num_threads)

    def batch(i: int) -> Batch:
        start = i * batch_size + process_index * num
        index = np.arange(start, min(start + num, len(source)))
        pad = num - index.size
        pixels = images.gather(np.zeros(index.size, np.int32), index, 0, index)
        return {
            "image": np.pad(pixels, [(0, pad), (0, 0), (0, 0), (0, 0)]),
            "label": np.pad(source.labels[index], (0, pad)),
            "mask": np.pad(np.ones(index.size, np.float32), (0, pad)),
            "index": np.pad(index, (0, pad), constant_values=-1).astype(np.int32),
        }

    batches = grain.MapDataset.range(-(-len(source) // batch_size)).map(batch)
    return EvalStream(batches, _read_options(images, num, num_threads))


class EvalStream(Sequence[Batch]):
    """The batches of one evaluation: a list that can be iterated any number of times, with Grain's prefetch."""

    def __init__(self, batches: grain.MapDataset, options: grain.ReadOptions) -> None:
        """Made by `eval_stream`."""
        self._batches = batches
        self._options = options

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._batches)

    def __getitem__(self, i: int) -> Batch:  # type: ignore[override]  # no slices: each would hold its images
        """Batch i."""
        if not 0 <= i < len(self):  # a Grain data set begins again at its end
            raise IndexError(f"Got batch {i}, expected 0 to {len(self) - 1}.")
        return self._batches[i]

    def __iter__(self) -> Iterator[Batch]:
        """Iterates over the batches; a few are prefetched (Grain's default would be 500)."""
        return iter(self._batches.to_iter_dataset(self._options))
