"""Cross-fitted scores of a set, or of the real images, by classifiers of one recipe.

A classifier that trained on images remembers them. So it is trained anew, once for each of a few folds of the images,
on everything that it was trained on but that fold, and each image is scored by the one that it was held out from.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jaxmoust import build
from jaxmoust.config import Config
from jaxmoust.core.optim import Recipe
from jaxmoust.data.pool import Pool
from jaxmoust.data.real import RealData
from jaxmoust.data.source import Source
from jaxmoust.data.splits.folds import fold_of
from jaxmoust.jobs.parts.streams import evaluation_stream, fit_fold, form_of, training_stream
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.train import predict


def check_trained(trained: Config) -> None:
    """Refuses the configuration of a classifier that cannot be trained again without a part of a set.

    Raises: ValueError: its batches depend on scores, or it began as another classifier.
    """
    backbone = trained["model"]["name"] == "backbone"
    if trained["data"]["scores"] or trained["method"]["pretrained"] or backbone:
        raise ValueError(
            "config.folds: the classifier reads scores of the set (data.scores), or began as another one "
            "(method.pretrained, or a backbone), which may have seen it. Train "
            "one from images and nothing else, or score by one of real images."
        )


def shortened(recipe: Recipe, part: float) -> Recipe:
    """A recipe of so much of its steps, of a schedule as long: what is right by then was learnt early."""
    steps = math.ceil(part * recipe.num_steps)
    return dataclasses.replace(recipe, num_steps=steps, warmup_steps=int(part * recipe.warmup_steps))


class CrossFit:
    """The trainings that score a set, laid out; everything that could refuse them has been asked.

    Args:
        config: of the verb `score`. trained: the classifier's own configuration; real, training: what it describes.
        images: those to score: a set, or `real.distinct`. sets: those that the classifier learnt from, whole, in its
            own order.
    Raises: ValueError: as `check_trained`; more folds than images.
    """

    def __init__(
        self,
        config: Config,
        trained: Config,
        real: RealData,
        training: build.Training,
        images: Source,
        sets: Sequence[Source],
        machine: parallel.Machine,
    ):
        self.num_folds, self.images, self.machine = config["folds"], images, machine
        self.seed, data, recipe = trained["seed"], trained["data"], shortened(training.recipe, config["part"])
        self.training = dataclasses.replace(training, best_metric="", recipe=recipe)
        check_trained(trained)
        self.folds, order = fold_of(images.labels, self.num_folds, self.seed), build.order_seed(trained)
        self.streams, self.shares, num_draws = [], [], recipe.num_steps * recipe.batch_size
        for k in range(self.num_folds):
            base = self._part(real.distinct, 0, k) if images is real.distinct else real.base
            pool = Pool.from_sources([base, *(self._part(source, data["n_synthetic"], k) for source in sets)])
            sampler = build.make_sampler(trained["sampler"], pool, order, num_draws, {})
            self.shares.append(training.task.class_shares(sampler.expected(0, num_draws), pool.class_names))
            self.streams.append(training_stream(pool, sampler, real, recipe, machine))
        form = form_of(training.task.model, real.shape, data)
        self.scored = [
            evaluation_stream(images.subset(np.flatnonzero(self.folds == k)), form, config, machine)
            for k in range(self.num_folds)
        ]

    def logits(self, folder: RunFolder) -> np.ndarray:
        """Trains a classifier for each fold, in fold0/, fold1/, ..., and returns what they say: [N, K]."""
        logits = np.empty((len(self.images), len(self.images.class_names)), np.float32)
        for k, (stream_from, scored, shares) in enumerate(zip(self.streams, self.scored, self.shares, strict=True)):
            state, _ = fit_fold(k, self.num_folds, self.training, stream_from, folder, self.machine, self.seed, shares)
            logits[self.folds == k] = predict.logits(self.training.task, state, scored, self.machine)
        return logits

    def _part(self, source: Source, num_images: int, k: int) -> Source:
        """What is left of a set without fold k: of the scored one, and of one that holds the same images."""
        used = np.arange(num_images or len(source))
        if source.digest == self.images.digest or (source.origin and source.origin == self.images.origin):
            # Sets of one origin begin alike; what the longer one has beyond the other is in no fold.
            shared = used[used < len(self.images)]
            used = np.concatenate([shared[self.folds[shared] != k], used[used >= len(self.images)]])
        return source.subset(used)
