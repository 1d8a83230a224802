"""How many images a second the loader delivers, beside torch's DataLoader in the same run.

From memory: 50,000 images of 32 px, uint8, batches of 128. From JPEG: photograph-like files of about 500 x 375
pixels and 100 kB that the script makes, a random-resized-crop to 224 px, batches of 64; the files stay in the
operating system's cache, so that decoders are compared and not disks. torch has two persistent worker processes;
we have two threads for JPEG and none for memory. From memory torch runs three ways: image by image as its tutorials
do (the ratio is to that one); with whole batches as indices in workers; and the same in the calling process, the
fastest we know. Repeats take turns, figures are medians; buffers are full when a turn begins and when it ends.

Run: python experiments/speed/loader.py [--quick]   (torch is optional: without it only our own figures)
Cost: about 2 minutes on 2 CPU cores (20 s of it to make the files); --quick: 10 s.
Result (2 cores of an x86_64, Python 3.11, torch 2.13, Pillow 13):
    from memory: jaxmoust 1,255,000 images/s; torch image by image 74,900 (16.8 times less), whole batches in workers
        71,500 (17.6), whole batches without a worker 340,800 (3.7)
    from JPEG: jaxmoust 829 images/s; torch 816 (1.02); both spend their time in libjpeg-turbo and the resampling
"""

import argparse
import importlib.util
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxmoust.data.loading.loader import train_stream
from jaxmoust.data.loading.transforms import RandomResizedCrop
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.shuffle import Random
from jaxmoust.data.sources.registry import from_arrays, image_folder

NUM_WORKERS = 2
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)


def photograph(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Draws noise whose spectrum falls as that of photographs does (amplitude about 1 / frequency)."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = 1 / max(height, width)

    def layer(power: float) -> np.ndarray:
        noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) / frequency**power).real
        return noise / noise.std()

    light = 45 * layer(1.1)
    colours = [light + 15 * layer(1.3) + 110 + 20 * rng.standard_normal() for _ in range(3)]
    return Image.fromarray(np.clip(np.stack(colours, -1), 0, 255).astype(np.uint8))


def make_folder(folder: Path, num_images: int) -> list[Path]:
    """Writes JPEG files of two classes, three of four lying, one standing."""
    paths = []
    for i in range(num_images):
        path = folder / f"class{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        size = (500, 375) if i % 4 == 3 else (375, 500)
        photograph(np.random.default_rng(i), *size).save(path, quality=92)
        paths.append(path)
    return paths


def ours(source: Any, batch_size: int, px: int, **options: Any) -> Iterator:
    """Our stream of training batches, without end."""
    pool = Pool.from_sources([source])
    return train_stream(pool, Random(pool, 0), batch_size, image_px=px, channels=3, **options)


def endless(loader: Any) -> Iterator:
    """Walks through a torch DataLoader again and again."""
    while True:
        yield from loader


def torch_from_memory(images: np.ndarray, labels: np.ndarray, batch_size: int) -> dict[str, Iterator]:
    """The three ways of torch to deliver shuffled batches of an array."""
    from torch import from_numpy
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

    data = TensorDataset(from_numpy(images.copy()), from_numpy(labels.astype(np.int64)))
    workers = dict(num_workers=NUM_WORKERS, persistent_workers=True, prefetch_factor=4)
    batches = BatchSampler(RandomSampler(data), batch_size, drop_last=True)
    return {
        "torch, image by image": endless(DataLoader(data, batch_size, shuffle=True, drop_last=True, **workers)),
        "torch, whole batches": endless(DataLoader(data, sampler=batches, batch_size=None, **workers)),
        "torch, whole batches, no worker": endless(DataLoader(data, sampler=batches, batch_size=None)),
    }


class TorchPhotographs:
    """A torch Dataset of image files under a random-resized-crop, with PIL, as a careful user writes it."""

    def __init__(self, paths: list[Path], px: int) -> None:
        """Keeps the names of the files."""
        self.paths, self.px = [str(path) for path in paths], px

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple:
        """Image i as a uint8 tensor [px, px, 3], and its label."""
        from torch import from_numpy

        with Image.open(self.paths[i]) as file:
            image = file.convert("RGB")
        left, top, width, height = self.rectangle(*image.size)
        cut = image.crop((left, top, left + width, top + height))
        return from_numpy(np.array(cut.resize((self.px, self.px), Image.Resampling.BILINEAR))), i % 2

    def rectangle(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Draws (left, top, width, height) as ours does."""
        for _ in range(10):
            area = width * height * random.uniform(*AREA)
            aspect = math.exp(random.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return random.randint(0, width - w), random.randint(0, height - h), w, h
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side


def torch_from_files(paths: list[Path], batch_size: int, px: int) -> dict[str, Iterator]:
    """Torch's DataLoader over image files."""
    from torch.utils.data import DataLoader

    return {
        "torch, image by image": endless(
            DataLoader(
                TorchPhotographs(paths, px),
                batch_size,
                shuffle=True,
                drop_last=True,
                num_workers=NUM_WORKERS,
                persistent_workers=True,
            )
        )
    }


def measure(streams: dict[str, Iterator], batch_size: int, num_batches: int, repeats: int) -> dict[str, float]:
    """Images a second of each stream: the median of several turns."""
    rates: dict[str, list[float]] = {name: [] for name in streams}
    for _ in range(repeats):
        for name, stream in streams.items():
            for _ in range(10):  # more than any of them keeps ready
                next(stream)
            start = time.perf_counter()
            for _ in range(num_batches):
                next(stream)
            rates[name].append(num_batches * batch_size / (time.perf_counter() - start))
            time.sleep(0.5)  # until its buffers are full again, so that it leaves the processors to the next
    return {name: statistics.median(values) for name, values in rates.items()}


def show(title: str, rates: dict[str, float]) -> None:
    """Prints the rates, and by how much ours is the largest of each."""
    print(title)
    for name, rate in rates.items():
        ratio = "" if name == "jaxmoust" else f"   jaxmoust / this: {rates['jaxmoust'] / rate:6.2f}"
        print(f"  {name:32} {rate:12,.0f} images/s{ratio}", flush=True)


def main() -> None:
    """Measures and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images, one turn: does it run?")
    parser.add_argument("--no-torch", action="store_true", help="our own figures only")
    args = parser.parse_args()
    with_torch = not args.no_torch and importlib.util.find_spec("torch") is not None
    num_images, num_files, repeats = (2_000, 16, 1) if args.quick else (50_000, 400, 7)

    images = np.random.default_rng(0).integers(0, 256, (num_images, 32, 32, 3), np.uint8)
    labels = np.arange(num_images, dtype=np.int32) % 10
    streams = {"jaxmoust": ours(from_arrays(images, labels), 128, 32)}
    if with_torch:
        streams |= torch_from_memory(images, labels, 128)
    show("32 px, from memory", measure(streams, 128, 20 if args.quick else 400, repeats))

    with tempfile.TemporaryDirectory() as folder:
        paths = make_folder(Path(folder), num_files)
        size = sum(os.path.getsize(path) for path in paths) / len(paths)
        crop = RandomResizedCrop(224, 3, AREA, ASPECT)
        source = image_folder(folder, "all")
        batch_size = 8 if args.quick else 64
        streams = {"jaxmoust": ours(source, batch_size, 224, train_transform=crop, decoded="none", num_threads=2)}
        if with_torch:
            streams |= torch_from_files(paths, batch_size, 224)
        title = f"\n224 px random-resized-crop, from {num_files} JPEG files of {size / 1000:.0f} kB"
        show(title, measure(streams, batch_size, 2 if args.quick else 20, repeats))


if __name__ == "__main__":
    main()
