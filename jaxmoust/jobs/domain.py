r"""Verb `domain`, task `domain`: measures how well real and synthetic images can be distinguished

Trains classifiers of real against synthetic, each evaluated on held-out images, and scores the set by their answers.
Leaves result.json (accuracy, auc, their intervals), features.npz (the images in the plane of the classifier's features)
and scores.npy in --workdir: the ratio p(image | real) / p(image | synthetic) of each synthetic image, which samplers
and filters read.

  jaxmoust domain --config=configs/domain/digits.py --workdir=runs/edm_set/scores/density_ratio \
    --config.set=runs/edm_set --config.classifier=runs/real
  jaxmoust train --config=configs/classifier/digits_resnet.py:synthetic=runs/edm_set --workdir=runs/filtered \
    --config.data.scores=density_ratio --config.data.drop_lowest=0.2
"""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import accuracy, metrics
from jaxmoust.analysis import domain_gap as gap
from jaxmoust.config import Config, Field, fields
from jaxmoust.core.optim import Recipe
from jaxmoust.core.state import TrainState
from jaxmoust.data.real import RealData
from jaxmoust.data.samplers.class_balanced import ClassPower
from jaxmoust.data.source import Source
from jaxmoust.data.splits.base_set import base_keys
from jaxmoust.data.splits.folds import fold_of
from jaxmoust.data.splits.real_vs_synthetic import KINDS, RealVsSynthetic, split_folds
from jaxmoust.jobs.parts.classifier import learnt_from_synthetic, open_classifier, score_summary
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.streams import (
    Form,
    base_size,
    evaluation_batch_size,
    evaluation_stream,
    fit_fold,
    form_of,
    training_stream,
    write_array,
)
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.paths import atomic_write
from jaxmoust.train import predict
from jaxmoust.train.loop import Intervals, Task, seconds_a_step

SCORE = "density_ratio"

# The most images of a kind whose features are drawn.
NUM_PICTURED = 1000

Logits = Mapping[str, np.ndarray]


class Domain(Job):
    """Trains classifiers of real against synthetic, cross-fitted: the domain gap.

    The images of each kind are split into folds, one classifier a fold is trained on the others by the same trainer
    as every other, and every image is evaluated once, held out. So the folder also holds a score
    of every synthetic image, and is read by `train` as one that `score` left.
    """

    sections = {
        **build.SEED,
        "set": Field("", str, "the folder of the synthetic set"),
        "classifier": Field("", str, "a real-trained classifier, whose features are drawn, too; '' for none"),
        "real": Field(
            "base",
            Literal["base", "unused"],
            "the base set, all that one who trains on it knows, or the training images that are not in it",
        ),
        "folds": Field(2, int, "from 2: each is evaluated by a classifier of the others"),
        "data": build.DATA,
        "model": build.MODEL,
        "augment": build.AUGMENT,
        "optim": build.OPTIM,
        # Held-out images are evaluated once, at the end.
        "train": {
            **fields(Recipe, only=("batch_size", "num_steps")),
            **fields(Intervals, only=("log_steps", "checkpoint_steps")),
        },
        "eval": build.EVAL,
    }
    images = ("base", "unused", "test")
    refers = ("set", "classifier")

    def check(self) -> None:
        """Builds the training; refuses a classifier that has learnt from synthetic images, or other classes."""
        config = self.config
        if not config["set"]:
            raise ValueError("config.set is empty: give the folder of a synthetic set, --config.set=DIR.")
        if config["folds"] < 2:
            raise ValueError(
                f"config.folds is {config['folds']!r}, expected 2 and up. Each fold is evaluated by the others."
            )
        self.real = real = self.inputs.real(config["data"])
        if config["real"] == "unused" and real.unused is None:
            raise ValueError(
                "config.real is 'unused' and the base set is all there is: set data.n_base, or real='base'."
            )
        if config["model"]["name"] == "backbone":
            raise ValueError("config.model.name 'backbone': expected a network that `domain` trains from scratch.")
        # No smoothing and no weights: the logits are calibrated on images that were not trained on.
        plain = {**config, "method": {}}
        self.training = build.make_training(
            build.make_classify, plain, real.shape, len(KINDS), metrics=(), machine=self.machine
        )
        if getattr(self.training.task.model, "separate_stats", False):
            raise ValueError(
                "config.model.separate_stats tells the network which images are synthetic: set it to False."
            )
        evaluation_batch_size(config, self.machine)
        self.images_of_set = self.inputs.synthetic(config["set"], real.base)
        self.kinds = split_folds(
            _real_images(real, config["real"]), self.images_of_set, config["folds"], config["seed"]
        )
        self.output = None
        if config["classifier"]:
            self.output = self.inputs.output(config["classifier"], "classify", "train")
            if learnt_from_synthetic(self.output.result):
                raise ValueError(
                    f"config.classifier {config['classifier']} was trained on synthetic images, or began as one "
                    "that was, expected one that knows real images alone. Train it with data.synthetic=(); in a study, "
                    "name the baseline as the arm, or none."
                )

    def promise(self) -> dict[str, Any]:
        """What is known of the gap, and of the scores, beforehand."""
        return {
            "n_synthetic": len(self.images_of_set),
            "set_digest": self.images_of_set.digest,
            "test_digest": self.real.test.digest,
        }

    def open(self) -> None:
        """Opens the streams, and the classifier that is named."""
        kinds, shape = self.kinds, self.real.shape
        streams = partial(_streams, config=self.config, machine=self.machine)
        form = form_of(self.training.task.model, shape, self.config["data"])
        self.heldout = [streams(kinds.heldout(k), form) for k in range(kinds.num_folds)]
        self.pictured = {kind: _some(source) for kind, source in kinds.heldout(0, only_counted=True).items()}
        self.pictures = streams(self.pictured, form)
        self.classifier = open_classifier(self.output, self.images_of_set) if self.output else None
        if one := self.classifier:
            self.pictures_for_classifier = streams(self.pictured, one.form)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Trains and evaluates fold by fold.

        Leaves result.json (accuracy and auc with their intervals, on as many held-out images of each kind from every
        class), scores.npy (p(x | real) / p(x | synthetic) of every synthetic image), features.npz (where held-out
        images of the first fold lie in the plane of its classifier's features, and of a real-trained classifier's) and
        fold0/, fold1/, ... with the classifiers.
        """
        kinds, training, machine, config = self.kinds, self.training, self.machine, self.config
        logits, features, seconds = [], {}, 0.0
        for k, of_fold in enumerate(self.heldout):
            state, spent = _train_fold(k, kinds, self.real, training, config, folder, machine)
            started = time.monotonic()
            ask = partial(_ask, training.task, state, machine=machine)
            logits.append({kind: _logit(rows) for kind, rows in ask(predict.logits, of_fold).items()})
            if k == 0:
                features["domain"] = ask(predict.features, self.pictures)
            seconds += spent + time.monotonic() - started
        if one := self.classifier:
            pictures = self.pictures_for_classifier
            features["classifier"] = _ask(one.task, one.state, predict.features, pictures, machine)
        planes = {name: _plane(of_kinds) for name, of_kinds in features.items()}
        if machine.primary:
            _write_features(folder.path / "features.npz", planes, self.pictured)
        ratios, calibrations = _density_ratios(kinds, logits, config["seed"])
        values = np.exp(ratios["synthetic"]).astype(np.float32)
        write_array(folder.path / "scores.npy", values, machine)
        return {
            **_gap(kinds, logits, ratios),
            "overlap": {name: gap.overlap(plane.points, _is_real(self.pictured)) for name, plane in planes.items()},
            "n_overlap": sum(map(len, self.pictured.values())),
            "real": config["real"],
            "n_real": len(kinds.sources["real"]),
            **self.promise(),
            "folds": kinds.num_folds,
            **score_summary(SCORE, values),
            "effective_size": gap.effective_size(values),
            "slopes": [c.slope for c in calibrations],
            "intercepts": [c.intercept for c in calibrations],
            "image_shape": self.real.shape,
            "own_shapes": {kind: source.shape for kind, source in kinds.sources.items()},
            "data_digest": kinds.sources["real"].digest,
            "seconds": seconds,
        }

    def calibrate(self) -> float:
        """By one step; what is evaluated at the end is not in it."""
        step = seconds_a_step(self.training, self.machine, self.real.shape)
        return self.config["folds"] * self.training.recipe.num_steps * step

    @staticmethod
    def work(config: Config, size_of: Callable[[str], int]) -> float:
        """Images that go through the trainings of all folds."""
        return config["folds"] * Job.work(config, size_of)


JOB = Domain


def _real_images(real: RealData, which: str) -> Source:
    """The real images that are compared, each once: a copy of a held-out image would be trained on."""
    if which == "unused":
        assert real.unused, "the check has refused a base set that is all there is"
        return real.unused
    return real.base.subset(np.arange(base_size(real))) if real.copies > 1 else real.base


def _some(source: Source) -> Source:
    """At most NUM_PICTURED images, of every class in proportion."""
    if len(source) <= NUM_PICTURED:
        return source
    return source.subset(np.sort(base_keys(source.labels, NUM_PICTURED, seed=0)))


def _streams(of_kinds: Mapping[str, Source], form: Form, config: Config, machine: parallel.Machine):
    """The padded batches of each kind in the form that a classifier sees, both kinds in the same."""
    return {kind: evaluation_stream(source, form, config, machine) for kind, source in of_kinds.items()}


def _train_fold(
    k: int,
    kinds: RealVsSynthetic,
    real: RealData,
    training: build.Training,
    config: Config,
    folder: RunFolder,
    machine: parallel.Machine,
) -> tuple[TrainState, float]:
    """Trains the classifier of which fold k is held out: (state, seconds)."""
    pool = kinds.training_pool(k)
    sampler = ClassPower(pool, power=0, seed=config["seed"])  # as many draws of each kind
    stream_from = training_stream(pool, sampler, real, training.recipe, machine)
    return fit_fold(k, kinds.num_folds, training, stream_from, folder, machine, config["seed"])


def _ask(task: Task, state: TrainState, what: Callable, streams: Mapping[str, Any], machine: parallel.Machine) -> dict:
    return {kind: what(task, state, stream, machine) for kind, stream in streams.items()}


def _logit(logits: np.ndarray) -> np.ndarray:
    return logits[:, KINDS.index("real")].astype(np.float64) - logits[:, KINDS.index("synthetic")]


def _density_ratios(
    kinds: RealVsSynthetic, logits: Sequence[Logits], seed: int
) -> tuple[dict[str, np.ndarray], list[gap.Calibration]]:
    """The log density ratio of every image, by kind, in the order of its source; and the calibrations behind them."""
    ratios = {kind: np.empty(of.size) for kind, of in kinds.folds.items()}
    calibrations = []
    for k, of_fold in enumerate(logits):
        mine = {kind: of == k for kind, of in kinds.folds.items()}
        halves = [fold_of(source.labels[mine[kind]], 2, seed + 1) for kind, source in kinds.sources.items()]
        both = np.concatenate([of_fold[kind] for kind in kinds.sources])
        num_real = of_fold["real"].size  # real images come first
        ratio, found = gap.cross_calibrated(both, np.arange(both.size) < num_real, np.concatenate(halves))
        calibrations += found
        ratios["real"][mine["real"]], ratios["synthetic"][mine["synthetic"]] = ratio[:num_real], ratio[num_real:]
    return ratios, calibrations


def _gap(kinds: RealVsSynthetic, logits: Sequence[Logits], ratios: Mapping[str, np.ndarray]) -> dict:
    """Accuracy, AUC and accuracy by class over the images that count, each by the classifier that it was held out from.

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
    auc, auc_interval = gap.auc(counted(ordered), is_real, counted(kinds.folds))
    class_names = kinds.sources["real"].class_names
    by_class = accuracy.per_class(rank, label, len(class_names))
    return {
        "accuracy": accuracy.top_k(rank),
        "accuracy_interval": accuracy.wilson(int((rank == 0).sum()), rank.size),
        "auc": auc,
        "auc_interval": auc_interval,
        "n": int(rank.size),
        "per_class": metrics.or_none(by_class),
        "class_names": class_names,
    }


def _plane(features: Mapping[str, np.ndarray]) -> gap.Plane:
    """The plane of real images' features, then synthetic ones'."""
    return gap.principal_plane(np.concatenate([features["real"], features["synthetic"]]))


def _is_real(pictured: Mapping[str, Source]) -> np.ndarray:
    return np.arange(sum(map(len, pictured.values()))) < len(pictured["real"])


def _write_features(path: Path, planes: Mapping[str, gap.Plane], pictured: Mapping[str, Source]) -> None:
    """Writes is_real and label [N], and of each classifier NAME its plane: NAME [N, 2] and NAME_shares [2]."""
    arrays: dict[str, Any] = {
        "is_real": _is_real(pictured),
        "label": np.concatenate([pictured["real"].labels, pictured["synthetic"].labels]),
    }
    for name, plane in planes.items():
        arrays |= {name: plane.points.astype(np.float32), f"{name}_shares": plane.shares}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    atomic_write(path, buffer.getvalue())
