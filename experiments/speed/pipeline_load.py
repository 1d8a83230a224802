"""How fast a pipeline is loaded beside reading the bytes of its files, and the most host memory that it takes.

Files are read plainly first, into memory that is kept, then as a pipeline; "from the disk" after the system was asked
to forget them.

Run: python experiments/speed/pipeline_load.py DIR --write=sd15   (writes a pipeline of random weights first, 4.3 GB)

1.5 in float32, 4.27 GB of files (x86_64, 2 cores of a virtual machine, two other jobs beside it; the second of two):

                                  from the disk    again
    the files                            31.2 s   21.7 s
    the pipeline                         15.9 s   12.2 s

A pipeline is loaded faster than its bytes are read into memory of their own, as files are mapped and only what has
another layout is copied: most of either is what a virtual machine takes for its first touch of memory (5.2 s a GiB; of
memory that was there before 0.25 s). The process holds at most 0.60 times the parameters besides mapped files.
"""

import argparse
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pipelines

from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import Loaded, memory


def held() -> int:
    """Bytes that this process holds besides mapped files, whose pages go when memory is wanted elsewhere."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


def most_held(run: Callable[[], object]) -> int:
    """The most bytes held while a function runs, beyond those before."""
    before, most, over = held(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            most.append(held() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    kept = run()
    most.append(held() - before)
    over.set()
    thread.join()
    del kept
    return max(most)


def main() -> None:
    """Writes a pipeline where that is asked for, and loads it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a pipeline")
    parser.add_argument("--write", choices=tuple(pipelines.SIZES), help="write a random pipeline of this size before")
    parser.add_argument("--param_dtype", choices=("float32", "bfloat16"), default="float32", help="of the parameters")
    args = parser.parse_args()
    if args.write:
        pipeline = pipelines.pipeline_of(args.write, "float32")
        stable_diffusion.save(Loaded(pipeline, pipelines.random_params(pipeline, "float32")), args.folder)
    files = sorted(args.folder.glob("*/*.safetensors"))
    size = sum(file.stat().st_size for file in files)

    def plain() -> list[np.ndarray]:
        return [np.fromfile(file, np.uint8) for file in files]

    def ours() -> Loaded:
        return stable_diffusion.load(str(args.folder), param_dtype=jnp.dtype(args.param_dtype))

    parameters = memory.size_of(ours().params)  # and its shapes are traced
    print(f"files of {size / 1e9:.2f} GB, parameters of {parameters / 1e9:.2f} GB in {args.param_dtype}")
    for cold in (True, False):
        for name, read in (("the files", plain), ("the pipeline", ours)):
            for file in files if cold else ():
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            start = time.perf_counter()
            kept = read()
            seconds = time.perf_counter() - start
            del kept
            where = "from the disk" if cold else "again"
            print(f"  {name}, {where}: {seconds:.2f} s, {size / seconds / 1e9:.2f} GB/s", flush=True)
    print(f"  at most {most_held(ours) / parameters:.2f} times the parameters in memory")


if __name__ == "__main__":
    main()
