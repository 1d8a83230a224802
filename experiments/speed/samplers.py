"""How long until the first draw, how much memory, how many draws a second: our samplers beside torch's and Grain's.

Run: python experiments/speed/samplers.py   (`--quick` for a small pool; torch is optional and only used here)
Cost: 1 min 40 s on 2 CPU cores, 2 GB.
Result (1.28 M real + 12.8 M synthetic images of 1,000 classes; 2 cores of an x86_64, Python 3.11, numpy 2.4, torch
2.13, grain 0.2.18; memory: the peak until the first draw, beyond the labels; keys/s: of an epoch with its start, ours
in blocks of 65,536; a batch is 256 draws; Share's first draw took 0.9 to 1.1 ms, and once 2.1, in six runs):
                      first draw      memory    keys/s   batch   one at a time
    Random                0.5 ms      0.3 MB      29 M  127 us          4.8 us
    Share                 1.0 ms      0.5 MB      23 M  283 us          5.6 us
    ClassPower 0          258 ms      234 MB     4.0 M  910 us          7.0 us
    ClassPower 0.5        276 ms      234 MB     3.5 M  617 us          7.2 us
    EffectiveNumber       345 ms      234 MB     4.0 M  617 us          7.1 us
    Progressive           332 ms      235 MB     2.4 M  1.4 ms          9.5 us
    Weighted               83 ms      120 MB     5.9 M   98 us          4.9 us
    Curriculum ramp       7.1 ms      1.0 MB      21 M  179 us          5.1 us
    EasyToHard             4.2 s      676 MB     2.7 M  310 us          5.8 us
    Children              590 ms      380 MB     8.1 M  204 us          6.4 us  (of another day)
    grain shuffle + mix   1.2 ms                                       10.2 us  (its IndexSampler: 18.9 us)
    torch RandomSampler    1.1 s      680 MB     5.2 M
    torch Weighted...      8.9 s      679 MB     1.4 M
Over 100 M images Weighted starts in 2.6 s, draws 3.3 M keys/s, and the process peaks at 1.53 GB; torch refuses
("number of categories cannot exceed 2^24"). So: Random's first draw 2,000 times sooner than torch's, Weighted's 107
times sooner; Share one at a time 1.8 times as fast as Grain's shuffle + mix.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

NUM_REAL, NUM_SYNTHETIC, NUM_CLASSES = 1_280_000, 12_800_000, 1000
BATCH = 256


def rss_mb() -> float:
    """Resident memory of this process now, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def start_peak() -> float:
    """Resident memory now, in MB, from which on `peak_mb` counts."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the peak
    return rss_mb()


def peak_mb() -> float:
    """The most resident memory since `start_peak`, or ever."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) * 1024 / 1e6


def make_pool(scale: float):
    """A pool of real and synthetic labels, the real ones in random order, the synthetic ones in turn."""
    import numpy as np

    from jaxmoust.data.pool import Pool

    num_real, num_synthetic = int(NUM_REAL * scale), int(NUM_SYNTHETIC * scale)
    real = np.random.default_rng(0).integers(0, NUM_CLASSES, num_real).astype(np.uint16)
    return Pool.from_labels({"real": real, "edm": (np.arange(num_synthetic) % NUM_CLASSES).astype(np.uint16)})


def make_ours(name: str, pool):
    """A sampler over the pool, and what its construction needs, made before the clock starts."""
    import numpy as np

    from jaxmoust.data.samplers.children import Children
    from jaxmoust.data.samplers.class_balanced import ClassPower, EffectiveNumber, Progressive
    from jaxmoust.data.samplers.curriculum import Curriculum
    from jaxmoust.data.samplers.score_based import EasyToHard, Weighted
    from jaxmoust.data.samplers.share import Share
    from jaxmoust.data.samplers.shuffle import Random
    from jaxmoust.data.source import Lineage

    half = {"real": 0.5, "edm": 0.5}
    num = len(pool)
    scores = np.random.default_rng(1).random(num, np.float32)
    scores.setflags(write=False)
    made = scores[pool.offsets[1] :]
    num_real = int(pool.offsets[1])
    made_from = Lineage("", np.random.default_rng(2).integers(0, num_real, num - num_real))
    return {
        "Random": lambda: Random(pool, 0),
        "Share": lambda: Share(pool, half, 0),
        "ClassPower 0": lambda: ClassPower(pool, 0, half, 0),
        "ClassPower 0.5": lambda: ClassPower(pool, 0.5, half, 0),
        "EffectiveNumber": lambda: EffectiveNumber(pool, 0.9999, half, 0),
        "Progressive": lambda: Progressive(pool, num, half, 0),
        "Weighted": lambda: Weighted(pool, scores, seed=0),
        "Curriculum ramp": lambda: Curriculum.ramp(pool, num, 0.0, 1.0, "cosine", seed=0),
        "EasyToHard": lambda: EasyToHard.paced(pool, {"edm": made}, num, shares=half, seed=0),
        "Children": lambda: Children(pool, {"edm": made_from}, 0.5, 0),
    }[name]


OURS = (
    *("Random", "Share", "ClassPower 0", "ClassPower 0.5", "EffectiveNumber", "Progressive"),
    *("Weighted", "Curriculum ramp", "EasyToHard", "Children"),
)


def ours(name: str, scale: float) -> dict:
    """First draw, peak of memory until then, an epoch of keys with its start, batches, and draws one at a time."""
    pool = make_pool(scale)
    make = make_ours(name, pool)
    before, started = start_peak(), time.perf_counter()
    sampler = make()
    _ = sampler[0]
    first, memory = time.perf_counter() - started, peak_mb() - before
    started = time.perf_counter()
    for start in range(0, len(pool), 1 << 16):
        sampler.keys(start, min(start + (1 << 16), len(pool)))
    epoch = first + time.perf_counter() - started
    num = 300
    started = time.perf_counter()
    for step in range(num):
        sampler.keys(step * BATCH, (step + 1) * BATCH)
    batches = time.perf_counter() - started
    return {
        "first_ms": 1e3 * first,
        "mb": memory,
        "keys_per_s": len(pool) / epoch,
        "batch_us": 1e6 * batches / num,
        "one_us": one_at_a_time(sampler),
    }


def one_at_a_time(sampler, num: int = 20_000) -> float:
    """Microseconds for one draw, in a row."""
    started = time.perf_counter()
    for i in range(num):
        sampler[i]
    return 1e6 * (time.perf_counter() - started) / num


def grain_shuffle_and_mix(scale: float) -> dict:
    """Grain's way: each source shuffled and repeated, the two mixed by weight; and its DataLoader's sampler."""
    import grain

    sources = [
        grain.MapDataset.range(int(n * scale)).shuffle(seed=s).repeat() for s, n in enumerate((NUM_REAL, NUM_SYNTHETIC))
    ]
    started = time.perf_counter()
    mixed = grain.MapDataset.mix(sources, weights=(0.5, 0.5))
    _ = mixed[0]
    first = time.perf_counter() - started
    index = grain.samplers.IndexSampler(int((NUM_REAL + NUM_SYNTHETIC) * scale), shuffle=True, seed=0)
    return {"first_ms": 1e3 * first, "one_us": one_at_a_time(mixed), "index_sampler_us": one_at_a_time(index)}


def torch_random(scale: float) -> dict:
    """Times torch's RandomSampler over the concatenation, which is the usual tool."""
    from torch.utils.data import RandomSampler

    num = int((NUM_REAL + NUM_SYNTHETIC) * scale)
    before, started = start_peak(), time.perf_counter()
    draws = iter(RandomSampler(range(num)))
    next(draws)
    first, memory = time.perf_counter() - started, peak_mb() - before
    started = time.perf_counter()
    rest = sum(1 for _ in draws)
    return {"first_ms": 1e3 * first, "mb": memory, "keys_per_s": rest / (time.perf_counter() - started + first)}


def torch_weighted(scale: float) -> dict:
    """Times torch's WeightedRandomSampler, an epoch of draws."""
    import torch
    from torch.utils.data import WeightedRandomSampler

    num = int((NUM_REAL + NUM_SYNTHETIC) * scale)
    weights = torch.rand(num, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before, started = start_peak(), time.perf_counter()
    draws = iter(WeightedRandomSampler(weights, num))
    next(draws)
    first, memory = time.perf_counter() - started, peak_mb() - before
    started = time.perf_counter()
    rest = sum(1 for _ in draws)
    return {"first_ms": 1e3 * first, "mb": memory, "keys_per_s": rest / (time.perf_counter() - started + first)}


def large_weighted(scale: float) -> dict:
    """Ours over 100 M images; the peak is that of the whole process, labels, weights and imports included."""
    import numpy as np

    from jaxmoust.data.pool import Pool
    from jaxmoust.data.samplers.score_based import Weighted

    num = int(100_000_000 * scale)
    pool = Pool.from_labels({"all": np.zeros(num, np.uint8)}, [str(c) for c in range(100)])
    weights = np.random.default_rng(1).random(num, np.float32)
    weights.setflags(write=False)
    started = time.perf_counter()
    sampler = Weighted(pool, weights, seed=0)
    _ = sampler[0]
    first = time.perf_counter() - started
    started = time.perf_counter()
    for start in range(0, 10 << 16, 1 << 16):
        sampler.keys(start, start + (1 << 16))
    return {"first_ms": 1e3 * first, "mb": peak_mb(), "keys_per_s": (10 << 16) / (time.perf_counter() - started)}


def torch_large_weighted(scale: float) -> dict:
    """What torch says to 100 M images."""
    import torch
    from torch.utils.data import WeightedRandomSampler

    num = int(100_000_000 * scale)
    try:
        next(iter(WeightedRandomSampler(torch.ones(num, dtype=torch.float32), 1)))
    except RuntimeError as error:
        return {"refused": str(error).splitlines()[0]}
    return {"refused": ""}


CASES = {
    **{f"ours: {name}": lambda scale, name=name: ours(name, scale) for name in OURS},
    "grain: shuffle + mix": grain_shuffle_and_mix,
    "torch: RandomSampler": torch_random,
    "torch: WeightedRandomSampler": torch_weighted,
    "ours: Weighted, 100 M": large_weighted,
    "torch: WeightedRandomSampler, 100 M": torch_large_weighted,
}


def main() -> None:
    """Runs each case in a process of its own, so that none finds another's memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the images")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    scale = 0.01 if args.quick else 1.0
    if args.case:
        print(json.dumps(CASES[args.case](scale)))
        return
    found = {}
    columns = ("first_ms", "mb", "keys_per_s", "batch_us", "one_us", "index_sampler_us")
    print(f"{'':36}" + "".join(f"{c:>17}" for c in columns))
    for case in CASES:
        command = [sys.executable, __file__, "--case", case, *(["--quick"] if args.quick else [])]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{case:36}{done.stderr.strip().splitlines()[-1]}")
            continue
        found[case] = json.loads(done.stdout)
        cells = [f"{found[case][c]:>17,.1f}" if c in found[case] else f"{'':>17}" for c in columns]
        print(f"{case:36}" + "".join(cells).rstrip() + str(found[case].get("refused", "")))
    print()
    for ours_case, peer, field, better in (
        ("ours: Random", "torch: RandomSampler", "first_ms", "less"),
        ("ours: Random", "torch: RandomSampler", "mb", "less"),
        ("ours: Random", "torch: RandomSampler", "keys_per_s", "more"),
        ("ours: Share", "grain: shuffle + mix", "one_us", "less"),
        ("ours: Weighted", "torch: WeightedRandomSampler", "first_ms", "less"),
        ("ours: Weighted", "torch: WeightedRandomSampler", "keys_per_s", "more"),
    ):
        if ours_case in found and peer in found:
            a, b = found[ours_case][field], found[peer][field]
            ratio = b / max(a, 1e-9) if better == "less" else a / b
            print(f"{field}: {ours_case} {a:,.2f}, {peer} {b:,.2f}: {ratio:,.1f} times {better}")


if __name__ == "__main__":
    main()
