"""The job of the domain gap: can a classifier tell a synthetic set from real images, and by how much?

Real and synthetic images are two classes of one classifier, trained by the same trainer as every other. It is
cross-fitted: the images of each kind are dealt out to folds, one classifier a fold is trained on the others, and every
image is judged once, by the one that has not seen it. So the folder also holds a score of every synthetic image, and is
read by `train` as one that `score` left.
"""

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import accuracy
from jaxmoust.analysis import domain_gap as domain
from jaxmoust.build import Config, RealData
from jaxmoust.core.state import TrainState
from jaxmoust.data.samplers import share
from jaxmoust.data.sources.registry import Source
from jaxmoust.data.splits.base_set import base_keys
from jaxmoust.data.splits.folds import fold_of
from jaxmoust.data.splits.real_vs_synthetic import KINDS, Kinds, deal
from jaxmoust.jobs.classifiers import held, learnt_from_synthetic, load_classifier, score_summary
from jaxmoust.jobs.job import (
    Resolve,
    Work,
    base_size,
    evaluation_batch_size,
    evaluation_stream,
    finished,
    fit_fold,
    open_real_data,
    training_stream,
    write_array,
)
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.paths import atomic_write
from jaxmoust.train import predict
from jaxmoust.train.loop import Task

DOMAIN_SECTIONS = (
    *("seed", "task", "set", "classifier", "real", "folds", "data", "model", "augment", "optim", "train", "eval"),
)
SCORE = "density_ratio"
REAL_IMAGES = ("base", "unused")

# The most images of a kind whose features are drawn.
NUM_PICTURED = 1000

Logits = Mapping[str, np.ndarray]


def domain_gap(config: Config, resolve: Resolve = Path) -> Work:
    """Trains classifiers of real against synthetic, cross-fitted, and judges every image (verb `domain`).

    Leaves result.json (accuracy and auc with their intervals, on as many held-out images of each kind from every
    class), scores.npy (p(x | real) / p(x | synthetic) of every synthetic image), features.npz (where held-out images
    of the first fold lie in the plane of its classifier's features, and of a real-trained classifier's) and fold0/,
    fold1/, ... with the classifiers.

    Raises: ValueError: what cannot run, a set of other classes, too few images for the folds, or a classifier that
        was not trained on real images alone.
    """
    machine = parallel.Machine.all()
    real, training = plan_domain(config, machine)
    made = build.open_set(resolve(config["set"]), real.base)
    kinds = deal(_real_images(real, config["real"]), made, config["folds"], config["seed"])
    open_streams = partial(_streams, config=config, machine=machine)
    heldout = [open_streams(kinds.heldout(k), real.shape, held(config)) for k in range(kinds.num_folds)]
    pictured = {kind: _some(source) for kind, source in kinds.heldout(0, only_counted=True).items()}
    pictures = open_streams(pictured, real.shape, held(config))
    judge = _open_judge(config, resolve, made)
    judged = open_streams(pictured, judge.shape, judge.held) if judge else {}

    def work(folder: RunFolder) -> dict:
        logits, features, seconds = [], {}, 0.0
        for k, of_fold in enumerate(heldout):
            state, spent = _train_fold(k, kinds, real, training, config, folder, machine)
            started = time.monotonic()
            ask = partial(_ask, training.task, state, machine=machine)
            logits.append({kind: _logit(rows) for kind, rows in ask(predict.logits, of_fold).items()})
            if k == 0:
                features["domain"] = ask(predict.features, pictures)
            seconds += spent + time.monotonic() - started
        if judge:
            features["classifier"] = _ask(judge.task, judge.state, predict.features, judged, machine)
        planes = {name: _plane(of_kinds) for name, of_kinds in features.items()}
        if machine.primary:
            _write_features(folder.path / "features.npz", planes, pictured)
        ratios, calibrations = _density_ratios(kinds, logits, config["seed"])
        values = np.exp(ratios["synthetic"]).astype(np.float32)
        write_array(folder.path / "scores.npy", values, machine)
        return {
            **_gap(kinds, logits, ratios),
            "overlap": {name: domain.overlap(plane.points, _is_real(pictured)) for name, plane in planes.items()},
            "n_overlap": sum(map(len, pictured.values())),
            "real": config["real"],
            "n_real": len(kinds.sources["real"]),
            "n_synthetic": len(made),
            "folds": kinds.num_folds,
            **score_summary(SCORE, values),
            "effective_size": domain.effective_size(values),
            "slopes": [c.slope for c in calibrations],
            "intercepts": [c.intercept for c in calibrations],
            "image_shape": real.shape,
            "own_shapes": {kind: source.shape for kind, source in kinds.sources.items()},
            "set_digest": made.digest,
            "data_digest": kinds.sources["real"].digest,
            "test_digest": real.test.digest,
            "seconds": seconds,
        }

    return work


def plan_domain(
    config: Config, machine: parallel.Machine, open_real: Callable[[Config], RealData] | None = None
) -> tuple[RealData, build.Training]:
    """Opens the real images and builds the training; refuses what could not run, whatever set is named."""
    build.check_sections(config, DOMAIN_SECTIONS, "domain")
    if not config["set"]:
        raise ValueError("config.set is empty: give the folder of a synthetic set, --config.set=DIR.")
    if config["real"] not in REAL_IMAGES:
        raise ValueError(
            f"config.real is {config['real']!r}; allowed are 'base' (the base set, all that one who trains on it "
            "knows) and 'unused' (the training images that are not in it)."
        )
    if not isinstance(config["folds"], int) or config["folds"] < 2:
        raise ValueError(
            f"config.folds is {config['folds']!r}; allowed is 2 and up: each fold is judged by the others."
        )
    if refused := sorted({"eval_steps", "best_metric"} & set(config["train"])):
        raise ValueError(f"config.train has {refused}: held-out images are judged once, at the end. Leave them out.")
    real = (open_real or open_real_data)(config["data"])
    if config["real"] == "unused" and real.unused is None:
        raise ValueError("config.real is 'unused' and the base set is all there is: set data.n_base, or real='base'.")
    # No smoothing and no weights: the logits are calibrated on images that were not trained on.
    training = build.make_training(
        build.make_classify, {**config, "method": {}}, real.shape, len(KINDS), metrics=(), machine=machine
    )
    if getattr(training.task.model, "separate_stats", False):
        raise ValueError("config.model.separate_stats tells the network which images are synthetic: set it to False.")
    evaluation_batch_size(config, machine)
    return real, training


def _real_images(real: RealData, which: str) -> Source:
    """The real images that are compared, each once: a copy of a held-out image would be trained on."""
    if which == "unused":
        return real.unused
    return real.base.subset(np.arange(base_size(real))) if real.copies > 1 else real.base


def _some(source: Source) -> Source:
    """At most NUM_PICTURED images, of every class in proportion."""
    if len(source) <= NUM_PICTURED:
        return source
    return source.subset(np.sort(base_keys(source.labels, NUM_PICTURED, seed=0)))


def _streams(of_kinds: Mapping[str, Source], shape: tuple, where: tuple, config: Config, machine: parallel.Machine):
    """The padded batches of each kind, brought to the shape that a classifier sees, both kinds in the same way."""
    return {kind: evaluation_stream(source, shape, config, machine, *where) for kind, source in of_kinds.items()}


@dataclass(frozen=True)
class _Judge:
    """A classifier that knows real images alone, the shape it sees, and how its images are held."""

    task: Task
    state: TrainState
    shape: tuple[int, int, int]
    held: tuple[str, str, float]


def _open_judge(config: Config, resolve: Resolve, made: Source) -> _Judge | None:
    """Opens the classifier whose features are drawn beside the domain classifier's, if one is named."""
    if not config["classifier"]:
        return None
    origin = resolve(config["classifier"])
    trained, done = finished(origin, "classify", "train")
    if learnt_from_synthetic(done):
        raise ValueError(
            f"config.classifier {origin} was trained on synthetic images, or began as what was; allowed is one that "
            "knows real images alone: train it with data.synthetic=()."
        )
    return _Judge(*load_classifier(origin, trained, done, made), held(trained))


def _train_fold(
    k: int,
    kinds: Kinds,
    real: RealData,
    training: build.Training,
    config: Config,
    folder: RunFolder,
    machine: parallel.Machine,
) -> tuple[TrainState, float]:
    """Trains the classifier that judges fold k: (state, seconds)."""
    pool = kinds.training_pool(k)
    sampler = share.ClassPower(pool, power=0, seed=config["seed"])  # as many draws of each kind
    stream_from = training_stream(pool, sampler, real, training.recipe, machine)
    return fit_fold(k, kinds.num_folds, training, stream_from, folder, machine, config["seed"])


def _ask(task: Task, state: TrainState, what: Callable, streams: Mapping[str, Any], machine: parallel.Machine) -> dict:
    return {kind: what(task, state, stream, machine) for kind, stream in streams.items()}


def _logit(logits: np.ndarray) -> np.ndarray:
    return logits[:, KINDS.index("real")].astype(np.float64) - logits[:, KINDS.index("synthetic")]


def _density_ratios(
    kinds: Kinds, logits: list[Logits], seed: int
) -> tuple[dict[str, np.ndarray], list[domain.Calibration]]:
    """The log density ratio of every image, by kind, in the order of its source; and the calibrations behind them."""
    ratios = {kind: np.empty(of.size) for kind, of in kinds.folds.items()}
    calibrations = []
    for k, of_fold in enumerate(logits):
        mine = {kind: of == k for kind, of in kinds.folds.items()}
        halves = [fold_of(source.labels[mine[kind]], 2, seed + 1) for kind, source in kinds.sources.items()]
        both = np.concatenate([of_fold[kind] for kind in kinds.sources])
        num_real = of_fold["real"].size  # real images come first
        ratio, found = domain.cross_calibrated(both, np.arange(both.size) < num_real, np.concatenate(halves))
        calibrations += found
        ratios["real"][mine["real"]], ratios["synthetic"][mine["synthetic"]] = ratio[:num_real], ratio[num_real:]
    return ratios, calibrations


def _gap(kinds: Kinds, logits: list[Logits], ratios: Mapping[str, np.ndarray]) -> dict:
    """Accuracy, AUC and accuracy by class over the images that count, each judged by who has not seen it.

    "Real" is said where the density ratio is above 1: the images that count are as many of each kind.
    """
    ordered = {kind: np.empty(of.size) for kind, of in kinds.folds.items()}
    for k, of_fold in enumerate(logits):
        for kind, of in kinds.folds.items():
            ordered[kind][of == k] = of_fold[kind]

    def counted(values: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([values[kind][kinds.counted[kind]] for kind in kinds.sources])

    label = counted({kind: source.labels for kind, source in kinds.sources.items()})
    is_real = counted({kind: np.full(of.size, kind == "real") for kind, of in kinds.folds.items()})
    rank = ((counted(ratios) > 0) != is_real).astype(np.int64)
    auc, auc_interval = domain.auc(counted(ordered), is_real, counted(kinds.folds))
    class_names = kinds.sources["real"].class_names
    by_class = accuracy.per_class(rank, label, len(class_names))
    return {
        "accuracy": accuracy.top_k(rank),
        "accuracy_interval": accuracy.wilson(int((rank == 0).sum()), rank.size),
        "auc": auc,
        "auc_interval": auc_interval,
        "n": int(rank.size),
        "per_class": [None if np.isnan(value) else float(value) for value in by_class],
        "class_names": class_names,
    }


def _plane(features: Mapping[str, np.ndarray]) -> domain.Plane:
    """The plane of real images' features, then synthetic ones'."""
    return domain.principal_plane(np.concatenate([features["real"], features["synthetic"]]))


def _is_real(pictured: Mapping[str, Source]) -> np.ndarray:
    return np.arange(sum(map(len, pictured.values()))) < len(pictured["real"])


def _write_features(path: Path, planes: Mapping[str, domain.Plane], pictured: Mapping[str, Source]) -> None:
    """Writes is_real and label [N], and of each classifier NAME its plane: NAME [N, 2] and NAME_shares [2]."""
    arrays = {
        "is_real": _is_real(pictured),
        "label": np.concatenate([pictured["real"].labels, pictured["synthetic"].labels]),
    }
    for name, plane in planes.items():
        arrays |= {name: plane.points.astype(np.float32), f"{name}_shares": plane.shares}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    atomic_write(path, buffer.getvalue())
