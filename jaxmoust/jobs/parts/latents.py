"""Opens the VAE that the section `latents` of a configuration names, and puts latents in the place of images."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmoust.config import Config
from jaxmoust.data.source import Source
from jaxmoust.generate import pixels
from jaxmoust.jobs.parts.inputs import Inputs
from jaxmoust.jobs.parts.streams import evaluation_stream, plain_form, some_of_each
from jaxmoust.models.stable_diffusion.autoencoder import Autoencoder, load_autoencoder
from jaxmoust.runtime import parallel
from jaxmoust.runtime.paths import cache_folder
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
    """Encodes the base set and the images of an evaluation, or finds them encoded.

    Returns: what makes `stream_from` one of latents, and the evaluation's batches with latents.
    """
    folder, form = _folder(config["latents"]["keep"]), plain_form(real.shape)
    # Besides the images: the last bits of sums depend on these.
    how = f"{form.transform}, {config['eval']['batch_size']} at once, {machine.description}, jax {jax.__version__}"

    def rows_of(source: Source, batches: Any) -> np.ndarray:
        if not folder:
            return latents.encode(params, batches, machine)
        return latents.kept(params, batches, machine, folder, f"{source.digest}, {how}")

    rows = rows_of(real.base, evaluation_stream(real.base, form, config, machine))

    def changed(stream_from: Callable[[int], Iterator]) -> Callable[[int], Iterator]:
        return lambda step: (_with(batch, rows) for batch in stream_from(step))

    sets = {name: (eval_data[name], rows_of(source, eval_data[name])) for name, source in some_of_each(real).items()}
    return changed, {name: [_with(batch, of) for batch in batches] for name, (batches, of) in sets.items()}


def _folder(keep: str) -> Path | None:
    """Where latents are kept, by the field latents.keep; None: nowhere."""
    if keep != "auto":
        return Path(keep).expanduser() if keep else None
    try:
        return cache_folder() / "latents"
    except RuntimeError:  # no home
        return None


def _with(batch: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {**batch, "image": rows[batch["index"]]}
