"""Batches: sampler + pool + transforms as one Grain stream, and the exact stream of an evaluation.

One Grain element is one step's batch, made by a pure function of the step number: the state of a stream is
that number. Sets that fit into memory are decoded and resized once, and a batch is one gather; larger ones are
read image by image in Grain's threads. Nothing here knows a device; a process gives its index and takes its
slice of the global batch.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grain
import numpy as np

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers import Sampler, draw_rng
from jaxmoust.data.source import Source
from jaxmoust.data.transforms import Resize

Batch = dict[str, np.ndarray]
Transform = grain.transforms.Map | grain.transforms.RandomMap

MEMORY_BYTES = 1 << 30  # a pool whose resized images take no more is held in memory
_NUM_THREADS = 16  # they wait for disks and decoders, which let go of the interpreter's lock
_READ_AT_ONCE = 256  # images a thread reads before it hands over: handing over costs as much as a small image
_PREFETCH_STEPS = 4


@dataclass(frozen=True, eq=False)
class _Images:
    """The images of some sources, brought to one shape: at once, where they fit into memory, or when asked for.

    Attributes:
        sources: S sources.
        transform: what brings an image to `shape`.
        shape: (H, W, C) of the result.
        resident: per source, all of its images in that shape, uint8 [N, H, W, C]; () when read when asked for.
    """

    sources: tuple[Source, ...]
    transform: Transform
    shape: tuple[int, int, int]
    resident: tuple[np.ndarray, ...] = ()

    def gather(self, source: np.ndarray, place: np.ndarray, seed: int, position: np.ndarray) -> np.ndarray:
        """Reads image place[j] of source source[j] for each j: uint8 [b, H, W, C].

        A random transform of image j is keyed by (seed, position[j]).
        """
        images = np.empty((place.size, *self.shape), np.uint8)
        if self.resident:
            for s, resident in enumerate(self.resident):
                which = np.flatnonzero(source == s)
                images[which] = resident[place[which]]
            return images
        for j in range(place.size):
            image = self.sources[source[j]].read(place[j])
            images[j] = self.transformed(image, seed, int(position[j]))
        return images

    def transformed(self, image: np.ndarray, seed: int, position: int) -> np.ndarray:
        """Brings one image to `shape`.

        Raises: ValueError: the transform makes another shape.
        """
        if isinstance(self.transform, grain.transforms.RandomMap):
            image = self.transform.random_map(image, draw_rng(seed, position))
        else:
            image = self.transform.map(image)
        if image.shape != self.shape:  # numpy would broadcast a grey image over three channels in silence
            raise ValueError(
                f"Got an image of shape {image.shape} from {self.transform}, allowed is {self.shape}: give the "
                f"transform the same image_px and channels as the stream."
            )
        return image


def _open_images(sources: Sequence[Source], transform: Transform, shape: tuple[int, int, int]) -> _Images:
    """Reads everything now if it fits into MEMORY_BYTES and is not transformed anew each time."""
    images = _Images(tuple(sources), transform, shape)
    num_bytes = sum(len(source) for source in sources) * int(np.prod(shape))
    if isinstance(transform, grain.transforms.RandomMap) or num_bytes > MEMORY_BYTES:
        return images
    resident = tuple(_read_all(images, source) for source in sources)
    return _Images(images.sources, transform, shape, resident)


def _read_all(images: _Images, source: Source) -> np.ndarray:
    kept = isinstance(images.transform, Resize) and images.transform.keeps(source.shape)
    if kept and isinstance(source.records, np.ndarray):
        return source.records
    everything = np.empty((len(source), *images.shape), np.uint8)

    def fill(start: int) -> None:
        for i in range(start, min(start + _READ_AT_ONCE, len(source))):
            everything[i] = images.transformed(source.read(i), 0, i)

    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        for _ in threads.map(fill, range(0, len(source), _READ_AT_ONCE)):  # raises what a thread raised
            pass
    return everything


def _read_options(images: _Images, num_threads: int | None = None) -> grain.ReadOptions:
    threads = num_threads if num_threads is not None else (1 if images.resident else _NUM_THREADS)
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(_PREFETCH_STEPS, threads))


def _check_slice(batch_size: int, process_index: int, process_count: int) -> int:
    """Returns the number of examples of this process."""
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"Got process {process_index} of {process_count}, allowed is 0 <= index < count: correct them."
        )
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"Got a global batch of {batch_size} for {process_count} processes, allowed is a positive multiple of "
            f"the number of processes: change batch_size."
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
    num_threads: int | None = None,
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
        num_threads: threads that make batches, each a whole one; by default one for images in memory, else 16.
    Returns: an iterator of dicts: image uint8 [B/P, image_px, image_px, channels], label int32 [B/P], source
        int32 [B/P] (place in pool.sources), slot int32 [B/P] (place in the global batch).
    Raises: ValueError: a pool without images, a sampler of another pool, a batch that P does not divide.
    """
    num = _check_slice(batch_size, process_index, process_count)
    if not pool.sources:
        raise ValueError("Got a pool made from labels, allowed is one with images: use Pool.from_sources.")
    if sampler.pool != pool:
        raise ValueError(f"Got a sampler over {sampler.pool}, allowed is one over {pool}: make it from that pool.")
    if start_step < 0:
        raise ValueError(f"Got start_step={start_step}, allowed is 0 and up: correct it.")
    transform = train_transform or Resize(image_px, channels)
    images = _open_images(pool.sources, transform, (image_px, image_px, channels))
    slot = np.arange(process_index * num, (process_index + 1) * num, dtype=np.int32)
    slot.setflags(write=False)  # every batch carries this one array

    def batch(step: int) -> Batch:
        start = step * batch_size + process_index * num
        keys = sampler.keys(start, start + num)
        source = pool.source(keys)
        pixels = images.gather(source, keys - pool.offsets[source], sampler.seed, np.arange(start, start + num))
        return {"image": pixels, "label": pool.label(keys), "source": source, "slot": slot}

    steps = grain.MapDataset.range(sys.maxsize // batch_size)  # the last position still fits into 63 bits
    stream = iter(steps.map(batch).to_iter_dataset(_read_options(images, num_threads)))
    stream.set_state({"next_index": start_step})
    return stream


def eval_stream(
    source: Source,
    batch_size: int,
    *,
    image_px: int,
    channels: int,
    process_index: int = 0,
    process_count: int = 1,
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
    Returns: ceil(N / B) dicts: image uint8 [B/P, image_px, image_px, channels], label int32 [B/P], mask float32
        [B/P], index int32 [B/P] (place in the source). Padding has mask 0, index -1, label 0 and a black image.
    Raises: ValueError: a batch that P does not divide.
    """
    num = _check_slice(batch_size, process_index, process_count)
    images = _open_images([source], Resize(image_px, channels), (image_px, image_px, channels))

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
    return EvalStream(batches, _read_options(images))


class EvalStream(Sequence[Batch]):
    """The batches of one evaluation: a list that can be walked any number of times, with Grain's prefetch."""

    def __init__(self, batches: grain.MapDataset, options: grain.ReadOptions) -> None:
        """Made by `eval_stream`."""
        self._batches = batches
        self._options = options

    def __len__(self) -> int:
        """The number of batches."""
        return len(self._batches)

    def __getitem__(self, i: int) -> Batch:
        """Batch i."""
        if not 0 <= i < len(self):  # a Grain data set begins again at its end
            raise IndexError(f"Got batch {i}, allowed are 0 to {len(self) - 1}.")
        return self._batches[i]

    def __iter__(self) -> Iterator[Batch]:
        """Walks through the batches; a few are in the making ahead (Grain's default would be 500)."""
        return iter(self._batches.to_iter_dataset(self._options))
