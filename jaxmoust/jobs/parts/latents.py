"""Opens the VAE that the section `latents` of a configuration names, and puts latents in the place of images."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.config import Config
from jaxmoust.generate import pixels
from jaxmoust.jobs.parts.inputs import Inputs
from jaxmoust.jobs.parts.streams import evaluation_stream, plain_form
from jaxmoust.models.stable_diffusion.autoencoder import Autoencoder, load_autoencoder
from jaxmoust.runtime import parallel
from jaxmoust.train.diffuse import Diffuse
from jaxmoust.train.latents import Latents


def open_latents(config: Config, inputs: Inputs) -> tuple[Autoencoder | None, Any]:
    """The VAE of a generator's configuration and its parameters; None for one that works on pixels.

    Raises: ValueError: no such VAE.
    """
    section = config.get("latents", {})
    if not section.get("path"):
        return None, None
    here = inputs.path(section["path"])
    how = (str(here) if here.exists() else section["path"], section["revision"], section["variant"])
    return inputs.once(f"autoencoder {how}", lambda: load_autoencoder(*how))


def generator_of(task: Diffuse, params: Any, vae: Any = None) -> pixels.Generator:
    """The generator of a task, with its parameters and, of one on latents, those of the VAE."""
    latents = task.latents
    decoder = pixels.Decoder(latents.autoencoder, latents.image_px, vae) if latents else None
    return pixels.Generator(task.model, task.method, params, task.num_classes, task.image_shape, decoder=decoder)


def encoded(
    latents: Latents, params: Any, real: Any, config: Config, eval_data: dict[str, Any], machine: parallel.Machine
) -> tuple[Callable[[Callable], Callable], dict[str, Any]]:
    """Encodes the base set, or finds it encoded, and the images of an evaluation.

    Returns: what makes `stream_from` one of latents, and the evaluation's batches with latents.
    """
    keep, images = config["latents"]["keep"], evaluation_stream(real.base, plain_form(real.shape), config, machine)
    if keep:
        folder = Path(keep).expanduser()
        rows = latents.kept(params, images, machine, folder, real.base.digest)
    else:
        rows = latents.encode(params, images, machine)

    def changed(stream_from: Callable[[int], Iterator]) -> Callable[[int], Iterator]:
        return lambda step: (_with(batch, rows) for batch in stream_from(step))

    sets = {name: (batches, latents.encode(params, batches, machine)) for name, batches in eval_data.items()}
    return changed, {name: [_with(batch, of) for batch in batches] for name, (batches, of) in sets.items()}


def _with(batch: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {**batch, "image": rows[batch["index"]]}
