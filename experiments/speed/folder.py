"""How long a folder of photographs takes to open, the first time, when every file is decoded, and the second time.

Writes small JPEGs in ten class folders, and opens training and test images in a process of their own each time, with a
cache of its own.

    python experiments/speed/folder.py [--num_images=50000]

Result on 2 CPU cores (x86_64) with some 18 other processes waiting for them: 50,000 images of 64 x 48 pixels the first
    time in 66 s (23 s of processor time, imports among them), the second time in 4.2 s (1.6 s).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

NUM_CLASSES, HEIGHT, WIDTH = 10, 48, 64
OPEN = """
import sys, time, resource
from jaxmoust.data.sources.registry import open_splits
from jaxmoust.data.sources.image_folder import Rules
started = time.monotonic()
train, test = open_splits("folder", ("train", "test"), sys.argv[1], "", Rules())
train.digest, test.digest
used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
print(f"{len(train):,} + {len(test):,} images in {time.monotonic() - started:.1f} s, "
      f"{used:.1f} s of processors, imports among them")
"""


def write(folder: Path, num_images: int) -> None:
    """Writes different pictures, a tenth of them in each class."""
    coarse = np.random.default_rng(0).integers(0, 256, (num_images, 3, 4, 3), dtype=np.uint8)
    for i, pixels in enumerate(coarse):
        path = folder / f"class_{i % NUM_CLASSES}" / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)


def main() -> None:
    """Prints both times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_images", type=int, default=50_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        write(Path(work) / "photographs", args.num_images)
        here = {**os.environ, "JAXMOUST_CACHE": str(Path(work) / "cache")}
        for time in ("first", "second"):
            print(time, end=": ", flush=True)
            subprocess.run([sys.executable, "-c", OPEN, str(Path(work) / "photographs")], env=here, check=True)


if __name__ == "__main__":
    main()
