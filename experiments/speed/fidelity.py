"""How long fidelity takes, and how much memory, at the size that papers report: 50,000 against 50,000 images.

Features are random, of the width of a ResNet-18's; the time does not depend on what they are.

Run: python experiments/speed/fidelity.py   (`--quick`: 1,000 images)
Cost: 3 min on 2 CPU cores, 0.7 GiB.
Result (50,000 x 50,000 images of 512 features; 2 CPU cores, x86_64, numpy 2.4, with a study on one of them): precision,
recall, density and coverage 81 s, peak 0.49 GiB; CMMD 54 s; KID 6.0 s; FID 2.4 s; the nearest training image of each
21 s; the process peaked at 0.68 GiB.
"""

import argparse
import resource
import time

import numpy as np

from jaxmoust.analysis import fidelity
from jaxmoust.analysis.nearest_neighbours import nearest

METRICS = {
    "precision, recall, density, coverage": fidelity.prdc,
    "CMMD": fidelity.cmmd,
    "KID": fidelity.kid,
    "FID": fidelity.fid,
    "nearest training image of each": nearest,
}


def main() -> None:
    """Measures and prints a line for each metric: seconds, processor time, and the process's peak so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 images: does it run?")
    parser.add_argument("--num_images", type=int, default=50_000, help="of each of the two sets")
    parser.add_argument("--num_features", type=int, default=512)
    args = parser.parse_args()
    rng, size = np.random.default_rng(0), (1000 if args.quick else args.num_images, args.num_features)
    real, fake = (rng.standard_normal(size, np.float32) for _ in range(2))
    print(f"{size[0]:,} x {size[0]:,} images of {size[1]} features", flush=True)
    for name, metric in METRICS.items():
        started, spent = time.perf_counter(), time.process_time()
        metric(real, fake)
        seconds, spent = time.perf_counter() - started, time.process_time() - spent
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
        print(f"{name}: {seconds:.1f} s ({spent:.1f} s of processor time), peak {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
