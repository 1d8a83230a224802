"""A page of made-up runs whose truth is known, for the tests of what is said and shown of it."""

import numpy as np

from jaxmoust.report.arms import ArmInfo
from jaxmoust.report.charts import base
from jaxmoust.report.page import COLUMNS, Gallery, Page, StageRecord

CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox")
NUM_IMAGES = 240


def svg(chart, words):
    """A chart's still picture."""
    return base.picture(chart, words).svg


def make_page(gains=(0, 40, -40), num_seeds=3, seed_noise=2, **changes):
    """Arms that get `gains` more images right than the baseline's 180 of 240, give or take a few by seed."""
    rng = np.random.default_rng(0)
    labels = np.arange(NUM_IMAGES) % len(CLASSES)
    order, arms, rows, ranks, curves = rng.permutation(NUM_IMAGES), [], [], {}, {}
    for i, gain in enumerate(gains):
        name = f"arm{i}"
        arms.append(ArmInfo(name, f"Arm {i}", f"What arm {i} does."))
        for seed in range(num_seeds):
            wrong = order[180 + gain + int(rng.integers(-seed_noise, seed_noise + 1)) :]
            rank = np.zeros(NUM_IMAGES, np.int32)
            rank[wrong] = rng.integers(1, len(CLASSES), len(wrong))
            ranks.setdefault(name, {})[seed] = rank
            top1, top5 = (100.0 * np.mean(rank < k) for k in (1, 5))
            rows.append(
                dict(zip(COLUMNS, ("trial", name, seed, "edm", "none", "share", 100, 2000, 0.5), strict=False))
                | {"steps": 500, "top1": round(top1, 6), "top5": round(top5, 6), "n_test": NUM_IMAGES}
                | {"seconds": 12.5 + i + seed / 8, "device": "2 CPU cores", "commit": "abcdef0"}
            )
            curves.setdefault(name, {})[seed] = [
                (step, {"loss": 2.0 / step, "top1": top1 - 30 / step}) for step in range(1, 201)
            ]
    pictures = {name: rng.integers(0, 256, (8, 8, 8, 1), np.uint8) for name in CLASSES}
    stages = [
        StageRecord("train", "train-0123", seconds=12.5, config={"lr": 0.25}),
        StageRecord("fit", "fit-4567", "fit edm", found=True, seconds=12.5, config={"lr": 0.25}),
    ]
    fields = {
        "title": "A trial",
        "question": "Does it help?",
        "command": "jaxmoust study --config=trial.py",
        "baseline": "arm0",
        "arms": arms,
        "rows": rows,
        "ranks": ranks,
        "labels": labels,
        "class_names": CLASSES,
        "curves": curves,
        "galleries": [Gallery(t, "Eight a class.", pictures) for t in ("Real", "EDM")],
        "provenance": stages,
        "environment": {"python": "3.11"},
    }
    return Page(**(fields | changes))
