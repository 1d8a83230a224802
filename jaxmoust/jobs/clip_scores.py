"""The job that scores a synthetic set by CLIP: p(class | image) among the classes' names, without any training."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.special import softmax

from jaxmoust import build
from jaxmoust.build import Config
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.generate import prompts
from jaxmoust.jobs.job import Resolve, Work, evaluation_batch_size, evaluation_stream, write_array
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.train import features

CLIP_SCORE_SECTIONS = ("task", "clip", "set", "prompts", "eval")


def score_by_clip(config: Config, resolve: Resolve = Path) -> Work:
    """Scores every image of a synthetic set by how sure CLIP is of its class (verb `score`).

    The score is the softmax over the classes of the scaled cosine between the image's features and those of the
    class's prompts; He et al. 2023 (2210.07574) keep what is above 1 / K. Several prompts of a class are averaged, as
    Radford et al. 2021 (2103.00020), section 3.1.4, do.
    """
    machine = parallel.Machine.all()
    plan_clip_score(config, machine)
    made = synthetic.open_synthetic(resolve(config["set"]))
    clip, params, ids = read_clip(config, made.class_names)
    data = evaluation_stream(made, made.shape, config, machine)

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        extractor = features.of_loaded_clip(clip, params)
        images = features.make_extract(extractor, machine)(data)
        values = probabilities(images, text_features(clip, params, ids), np.exp(float(params["logit_scale"])))
        values = values[np.arange(len(made)), made.labels].astype(np.float32)
        write_array(folder.path / "scores.npy", values, machine)
        return {
            "n": len(values),
            "score": "clip",
            "extractor": extractor.name,
            "above_chance": float((values > 1 / len(made.class_names)).mean()),
            "mean": float(values.mean(dtype=np.float64)),
            "quantiles": np.quantile(values, (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)).tolist(),
            "set_digest": made.digest,
            "seconds": time.monotonic() - started,
        }

    return work


def plan_clip_score(config: Config, machine: parallel.Machine) -> None:
    """Refuses a configuration that could not run, whatever CLIP and set it names."""
    build.check_sections(config, CLIP_SCORE_SECTIONS, "clip_score")
    if not config["clip"] or not config["set"]:
        raise ValueError(
            "config.clip or config.set is empty: give the folders of a CLIP in Hugging Face's layout and of a set, "
            "--config.clip=DIR --config.set=DIR."
        )
    evaluation_batch_size(config, machine)


def read_clip(config: Config, class_names: Sequence[str]) -> tuple[Any, Any, list[np.ndarray]]:
    """Reads what scores the images of these classes: (CLIP, its parameters, for each class its prompts' tokens [P, L]).

    Raises: ValueError: no CLIP there, prompts that do not say the class, or that are too long for it.
    """
    # Here, as transformers takes seconds to import, which no other score should pay.
    from jaxmoust.models.stable_diffusion.clip import load_clip

    asked = build.unpack("prompts", prompts.read, config["prompts"], class_names=class_names)
    clip, params = load_clip(config["clip"])
    return clip, params, [clip.tokenize(of_class) for of_class in asked]


def text_features(clip: Any, params: Any, ids: list[np.ndarray]) -> np.ndarray:
    """The direction of each class, [K, F]: the mean of its prompts' directions. ids: for each class [prompts, L]."""
    encode = jax.jit(clip.text_features)
    return _unit(np.stack([_unit(np.asarray(encode(params, rows))).mean(axis=0) for rows in ids]))


def probabilities(images: np.ndarray, texts: np.ndarray, scale: float) -> np.ndarray:
    """p(class | image), float64 [N, K], from features [N, F] and [K, F]."""
    return softmax(scale * _unit(images.astype(np.float64)) @ _unit(texts.astype(np.float64)).T, axis=1)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
