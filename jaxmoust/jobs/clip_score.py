r"""Verb `score`, task `clip_score`: scores a synthetic set by CLIP

The score is p(class | image) among the classes' names by CLIP, from a local folder, without any training.

  jaxmoust score --config=configs/score/clip.py --workdir=runs/edm_set/scores/clip --config.set=runs/edm_set \
    --config.clip=clip-vit-base-patch32
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy.special import softmax

from jaxmoust import build
from jaxmoust.analysis.scores import softened
from jaxmoust.config import Config, Field, fields, unpack
from jaxmoust.generate import prompts
from jaxmoust.jobs.parts.classifier import score_summary
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.streams import (
    evaluation_batch_size,
    evaluation_stream,
    prepared_form,
    seconds_an_image,
    write_array,
)
from jaxmoust.models.stable_diffusion.clip import load_clip
from jaxmoust.runtime.folder import RunFolder, digest
from jaxmoust.train import features


class ClipScore(Job):
    """Scores every image of a synthetic set by CLIP's probability of its class.

    The score is the softmax over the classes of the scaled cosine between the image's features and those of the
    class's prompts; He et al. 2023 (2210.07574) keep what is above 1 / K. Several prompts of a class are averaged, as
    Radford et al. 2021 (2103.00020), section 3.1.4, do.
    """

    sections = {
        "clip": Field("", str, "the folder of a CLIP in Hugging Face's layout"),
        "set": Field("", str, "the folder of the synthetic set"),
        "prompts": fields(prompts.read, skip=(*prompts.OF_DATA, "contexts", "other_class")),
        "eval": build.EVAL,
    }
    refers = ("clip", "set", "prompts.templates_file", "prompts.words_file", "prompts.captions_file")

    def check(self) -> None:
        """Opens CLIP and its prompts, once for all sets that it scores. Refuses prompts too long for it."""
        config = self.config
        if not config["clip"] or not config["set"]:
            raise ValueError(
                "config.clip or config.set is empty: give the folders of a CLIP in Hugging Face's layout and of a set, "
                "--config.clip=DIR --config.set=DIR."
            )
        evaluation_batch_size(config, self.machine)
        self.synthetic = self.inputs.synthetic(config["set"])
        names = self.synthetic.class_names
        wanted = digest([config["clip"], config["prompts"], names])

        def read() -> tuple:
            asked = unpack("prompts", prompts.read, config["prompts"], class_names=names)
            clip, params = load_clip(self.inputs.path(config["clip"]))
            return clip, params, [clip.tokenize(of_class) for of_class in asked]

        self.clip, self.params, self.ids = self.inputs.once(f"clip {wanted}", read)

    def promise(self) -> dict[str, Any]:
        """What is known of the scores."""
        return {"n": len(self.synthetic), "set_digest": self.synthetic.digest}

    def open(self) -> None:
        """Opens the stream."""
        form = prepared_form(self.clip.image.preprocessing)
        self.data = evaluation_stream(self.synthetic, form, self.config, self.machine)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Scores."""
        started, images, params = time.monotonic(), self.synthetic, self.params
        extractor = features.of_loaded_clip(self.clip, params)
        vectors = features.make_extract(extractor, self.machine)(self.data)
        texts, scale = text_features(self.clip, params, self.ids), np.exp(float(params["logit_scale"]))
        each, rows = probabilities(vectors, texts, scale), np.arange(len(images))
        values = softened(lambda p, labels: p[rows, labels], each, images.labels, images.soft).astype(np.float32)
        write_array(folder.path / "scores.npy", values, self.machine)
        return {
            **self.promise(),
            **score_summary("clip", values),
            "extractor": extractor.name,
            "above_chance": float((values > 1 / len(images.class_names)).mean()),
            "seconds": time.monotonic() - started,
        }

    def calibrate(self) -> float:
        """By a batch of black images."""
        shape = prepared_form(self.clip.image.preprocessing).shape
        extract = features.make_extract(features.of_loaded_clip(self.clip, self.params), self.machine)
        return len(self.synthetic) * seconds_an_image(extract, shape, self.config, self.machine)

    @staticmethod
    def work(config: Config, size_of: Callable[[str], int]) -> float:
        """Images of the set."""
        return float(size_of(config["set"]))


JOB = ClipScore


def text_features(clip: Any, params: Any, ids: list[np.ndarray]) -> np.ndarray:
    """The direction of each class, [K, F]: the mean of its prompts' directions. ids: for each class [prompts, L]."""
    encode = jax.jit(clip.text_features)
    return _unit(np.stack([_unit(np.asarray(encode(params, rows))).mean(axis=0) for rows in ids]))


def probabilities(images: np.ndarray, texts: np.ndarray, scale: float) -> np.ndarray:
    """p(class | image), float64 [N, K], from features [N, F] and [K, F]."""
    return softmax(scale * _unit(images.astype(np.float64)) @ _unit(texts.astype(np.float64)).T, axis=1)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
