r"""Verb `features`, task `features`: computes the features of images once, for all linear probes on them

Leaves features.npy in --workdir: float32 [views, images, features] of the base set's images, of the test images, or of
a synthetic set; the first view is the image as it is, the others are augmented. A study does this by itself.

  jaxmoust features --config=configs/features.py --workdir=runs/features/train --config.model.weights=DIR \
    --config.data.path=PHOTOS --config.views=4
  jaxmoust features --config=configs/features.py --workdir=runs/features/test --config.model.weights=DIR \
    --config.data.path=PHOTOS --config.part=test
  jaxmoust train --config=configs/classifier/backbone.py --workdir=runs/probe --config.model.weights=DIR \
    --config.data.path=PHOTOS --config.probe.features=runs/features/train,runs/features/test
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from jaxmoust import build
from jaxmoust.config import Config, Field, fields
from jaxmoust.data.source import Source
from jaxmoust.jobs.parts import probe
from jaxmoust.jobs.parts.job import PLACES, Job
from jaxmoust.jobs.parts.streams import evaluation_batch_size, form_of, preparation_of, write_array
from jaxmoust.models.stable_diffusion import memory
from jaxmoust.runtime.folder import RunFolder, digest
from jaxmoust.train import predict
from jaxmoust.train.classify import Classify


class Features(Job):
    """Computes the features of a base set, a test set, or a synthetic set."""

    sections = {
        "part": Field("train", Literal["train", "test", "validation"], "which of the real images; train: the base set"),
        "set": Field("", str, "the folder of a synthetic set instead"),
        "views": Field(1, int, "of each image; all but the first go through augment"),
        "data": build.DATA,
        "model": build.MODEL,
        "method": fields(Classify, only=("pretrained",)),
        "augment": build.AUGMENT,
        "eval": build.EVAL,
    }
    refers = ("set", "model.weights", "method.pretrained")

    def contents(self) -> dict[str, str]:
        """The images and the network."""
        real, config = self.inputs.real(self.config["data"]), self.config
        how = preparation_of(config)
        seen = {
            "images": "" if config["set"] else self.images_of().digest,
            "shape": digest(how or [real.shape, real.test_crop]),
        }
        return {**super().contents(), **{name: value for name, value in seen.items() if value}}

    @property
    def places(self) -> tuple[str, ...]:
        """Fields whose content says which images these are, and how they are preprocessed."""
        return (*PLACES, *(f"data.{name}" for name in self.config["data"]))

    def images_of(self) -> Source:
        """The images."""
        real = self.inputs.real(self.config["data"])
        if self.config["set"]:
            return self.inputs.synthetic(self.config["set"])
        if self.config["part"] == "validation":
            if real.validation is None:
                raise ValueError("config.part 'validation' and there are none: set data.validation, or another part.")
            return real.validation
        return real.test if self.config["part"] == "test" else real.distinct

    def check(self) -> None:
        """Builds the network; refuses what no file or memory holds."""
        config, self.real = self.config, self.inputs.real(self.config["data"])
        if not 1 <= config["views"] <= 101:
            raise ValueError(f"config.views {config['views']}: expected whole numbers from 1 to 101.")
        self.source = self.images_of()
        learn = {**config, "method": {**config["method"], "learn": "probe"}}
        self.task = build.make_classify(learn, self.real.shape, len(self.source.class_names))
        evaluation_batch_size(config, self.machine, self.real.shape)
        self.num_features = self.task.num_features
        size = 4 * config["views"] * len(self.source) * self.num_features
        self.machine.check_memory(f"The features of config.views {config['views']}", size)

    def promise(self) -> dict[str, Any]:
        """What is known of the features."""
        return {
            "images_digest": self.source.digest,
            "weights": probe.weights_of(self.config, self.inputs),
            "num_images": len(self.source),
            "num_views": self.config["views"],
            "num_features": self.num_features,
            "image_shape": form_of(self.task.model, self.real.shape, self.config["data"]).shape,
            **preparation_of(self.config),
        }

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Computes them, view after view."""
        started, config = time.monotonic(), self.config
        base = self.task.base()
        rows = probe.compute(self.task, base, self.source, self.real, config, self.machine, config["views"])
        write_array(folder.path / "features.npy", rows.astype(np.float32), self.machine)
        return {**self.promise(), "seconds": time.monotonic() - started}

    @functools.cached_property
    def need_alone(self) -> memory.Need:
        """What a batch takes where there is one device."""
        form = form_of(self.task.model, self.real.shape, self.config["data"])
        return predict.need(self.task, form.shape, self.config["eval"]["batch_size"])

    def calibrate(self) -> float:
        """By one whole batch of real images as they are, after one that compiles."""
        size = self.config["eval"]["batch_size"]
        some = self.real.base.subset(np.arange(size) % len(self.real.base))
        given = (self.task, self.task.base(), some, self.real, self.config, self.machine, 1)
        probe.compute(*given)
        started = time.monotonic()
        probe.compute(*given)
        return (time.monotonic() - started) * -(-len(self.source) // size) * self.config["views"]

    @staticmethod
    def work(config: Config, size_of: Callable[[str], int]) -> float:
        """Images times views."""
        return float(config["views"] * (size_of(config["set"]) if config["set"] else config["data"]["n_base"] or 1))


JOB = Features
