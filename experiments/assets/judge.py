"""What the embedded pipeline can do: does it draw what it is asked for, and does its VAE give images back?"""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sklearn.neural_network import MLPClassifier

from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.source import Source
from jaxmoust.data.sources.registry import open_source
from jaxmoust.generate import prompts, text_to_image
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import Loaded
from jaxmoust.runtime import parallel

TEMPLATE = "a photo of the digit {}"


def judge(folder: Path, train: Source, test: Source, num_images: int) -> dict[str, Any]:
    """Judges a pipeline as it lies on disk.

    Args:
        train, test: typeset digits; their class names begin with the digit.
        num_images: how many it draws, of each digit as many.
    Returns: `reader_top1`, the share of typeset test images that a two-layer perceptron, trained on the typeset
        training images, reads rightly; `prompt_top1`, the share of drawn ones that it reads as what was asked for;
        `drawn_per_second`; `vae_error`, mean absolute errors of images given back, 1 being black to white.
    """
    loaded = stable_diffusion.load(str(folder))
    reader = MLPClassifier((256,), early_stopping=True, max_iter=30, random_state=0)
    reader.fit(_features(grey_pixels(train)), _digits(train))
    request = text_to_image.Request(
        prompts.from_templates([TEMPLATE], [str(digit) for digit in range(10)]),
        loaded.pipeline.image_px,
        solver="dpmpp_2m",
        num_steps=15,
        guidance=2.0,
        per_device_batch=50,
    )
    labels, indices = np.arange(num_images) % 10, np.arange(num_images) // 10
    drawn, seconds = timed_draw(loaded, request, labels, indices)
    handwriting = open_source("digits", "test")
    return {
        "reader_top1": round(float(np.mean(reader.predict(_features(grey_pixels(test))) == _digits(test))), 4),
        "prompt_top1": round(float(np.mean(reader.predict(_features(drawn)) == labels)), 4),
        "num_drawn": num_images,
        "drawn_per_second": round(num_images / seconds, 1),
        "vae_error": {
            "typeset": round(vae_error(loaded, grey_pixels(test)), 5),
            "handwriting": round(vae_error(loaded, grey_pixels(handwriting)), 5),
        },
    }


def timed_draw(loaded: Loaded, request: text_to_image.Request, labels: Any, indices: Any) -> tuple[np.ndarray, float]:
    """Draws on all devices; returns grey images [N, H, W] in [0, 1] and the seconds without compiling."""
    machine = parallel.Machine.all()
    block = machine.num_devices * request.per_device_batch
    list(text_to_image.draw(loaded, request, 1, labels[:block], indices[:block], machine))
    started = time.monotonic()
    drawn = np.concatenate(list(text_to_image.draw(loaded, request, 0, labels, indices, machine)))
    return drawn.mean(-1) / 255, time.monotonic() - started


def vae_error(loaded: Loaded, images: np.ndarray) -> float:
    """Mean absolute error of grey images [N, 32, 32] in [0, 1], through the posterior's mean and back."""
    pipeline = loaded.pipeline

    @jax.jit
    def back(params: Any, image: jax.Array) -> jax.Array:
        return pipeline.decode_latent(params, pipeline.encode_image(params, image))

    errors = []
    for start in range(0, len(images), 100):
        image = np.repeat(images[start : start + 100, ..., None], 3, -1).astype(np.float32)
        errors.append(np.abs(np.asarray(back(loaded.params, 2 * image - 1)) / 2 + 0.5 - image).mean((1, 2, 3)))
    return float(np.concatenate(errors).mean())


def grey_pixels(source: Source) -> np.ndarray:
    """All images of a source, grey [N, 32, 32] in [0, 1]."""
    resize = Resize(32, 1)
    return np.stack([resize.map(image)[..., 0] for image in source.images(np.arange(len(source)))]) / 255


def _digits(source: Source) -> np.ndarray:
    return np.array([int(name[0]) for name in source.class_names])[source.labels]


def _features(images: np.ndarray) -> np.ndarray:
    """Pixels [N, 1024] with the ground at 0 and the ink at 1, whichever of them was dark."""
    ground = np.median(images.reshape(len(images), -1)[:, _border(images.shape[1])], -1)[:, None, None]
    ink = np.abs(images - ground)
    return (ink / np.maximum(ink.max((1, 2), keepdims=True), 1e-3)).reshape(len(images), -1)


def _border(side: int) -> np.ndarray:
    row, column = np.divmod(np.arange(side * side), side)
    return (np.minimum(row, column) == 0) | (np.maximum(row, column) == side - 1)
