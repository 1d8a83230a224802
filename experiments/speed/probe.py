"""How long the linear probes of a study take: 6 arms of 20 seeds on 5,000 images with 384 features, 10 classes.

Made-up features of overlapping classes. An arm is what a sampler makes of the same images: all alike, duplicated, three
shares of images that are synthetic, classes balanced. Every probe chooses its strength of seven by three folds.

    python experiments/speed/probe.py [--num_images=5000] [--num_features=384] [--num_seeds=20] [--scikit_learn]

Cost: all 120 in 41.9 s (74.0 s of processors, 4 s of compiling among them) on 2 cores with nothing beside (x86_64, jax
    0.10.2). scikit-learn took 9 to 10 s for one strength of such images on the same machine.
"""

import argparse
import time

import numpy as np

from jaxmoust.train.probe import Probe, Rows, fit, nearest

NUM_CLASSES, NUM_TEST = 10, 1000


def made_up(num_images: int, num_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Features whose variance falls over their directions, as those of networks do; classes overlap."""
    rng = np.random.default_rng(0)
    label = np.arange(num_images) % NUM_CLASSES
    turn, _ = np.linalg.qr(rng.normal(size=(num_features, num_features)))
    scale = np.arange(1, num_features + 1)[:, None] ** -0.7
    means = 0.15 * rng.normal(size=(NUM_CLASSES, num_features))
    return ((rng.normal(size=(num_images, num_features)) + means[label]) @ (scale * turn)).astype(np.float32), label


def main() -> None:
    """Prints seconds of all of it, and of one by scikit-learn at one strength."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_images", type=int, default=5000)
    parser.add_argument("--num_features", type=int, default=384)
    parser.add_argument("--num_seeds", type=int, default=20)
    parser.add_argument("--scikit_learn", action="store_true", help="fit one by scikit-learn, too")
    args = parser.parse_args()
    x, label = made_up(args.num_images + NUM_TEST, args.num_features)
    test, test_label = x[args.num_images :], label[args.num_images :]
    x, label = x[: args.num_images], label[: args.num_images]
    real = np.arange(len(x)) < len(x) // 2
    weights = {"real": 1.0 * real, "duplicated": 3.0 * real, "balanced": 1.0 + (label == 0)}
    weights |= {f"share {part}": np.where(real, 1 - part, part) for part in (0.2, 0.5, 0.8)}
    started, computed = time.monotonic(), time.process_time()
    for arm, weight in weights.items():
        for seed in range(args.num_seeds):
            kept = np.flatnonzero(weight * np.random.default_rng(seed).integers(1, 3, len(x)))
            given = (
                x[kept],
                label[kept],
                weight[kept],
                np.zeros(len(kept)),
                kept,
                real[kept],
                np.ones(len(kept), bool),
            )
            rows = Rows(*given)
            head = fit(rows, NUM_CLASSES, Probe(), seed)
            top1 = 100 * np.mean((test @ head.kernel + head.bias).argmax(1) == test_label)
            knn = 100 * np.mean(nearest(rows, NUM_CLASSES, test).argmax(1) == test_label)
        spent, used = time.monotonic() - started, time.process_time() - computed
        found = f"top1 {top1:.1f}, k-NN {knn:.1f}, l2 {head.l2:g}"
        print(f"{arm}: {found}; {spent:.1f} s so far, {used:.1f} s of processors", flush=True)
    if args.scikit_learn:
        from sklearn.linear_model import LogisticRegression

        started = time.monotonic()
        LogisticRegression(C=1 / (1e-4 * len(x)), max_iter=1000).fit((x - x.mean(0)) / x.std(), label)
        print(f"scikit-learn, one strength: {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
