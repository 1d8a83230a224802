"""Images as latents of a frozen VAE: encoded once, kept by content, drawn anew from the posterior at every step."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmoust.core import tree
from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.diffusion import noise
from jaxmoust.models.stable_diffusion.autoencoder import Autoencoder, to_vae_input
from jaxmoust.runtime import parallel
from jaxmoust.runtime.paths import replacing, sweep
from jaxmoust.train.loop import Batch, Images, normalize, rows_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latents:
    """What a generator sees of its images: the posterior of a VAE, of mirror images too where training flips.

    Args:
        image_px: the side that images are brought to before the VAE. flip: whether mirror images are encoded.
    """

    autoencoder: Autoencoder
    image_px: int
    flip: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(h, w, C) of a latent."""
        return self.autoencoder.latent_shape(self.image_px)

    @property
    def row(self) -> jax.ShapeDtypeStruct:
        """What stands for an image in a batch: means and deviations side by side, [1 or 2, h, w, 2 C]."""
        *side, channels = self.shape
        return jax.ShapeDtypeStruct((1 + self.flip, *side, 2 * channels), np.float16)

    def rows(self, params: Any, batch: Batch) -> dict[str, Array]:
        """The posteriors of images, {"row": [b, ...]} as in `row`."""
        seen = to_vae_input(normalize(batch["image"]), self.image_px)
        sides = [seen, seen[:, :, ::-1]] if self.flip else [seen]
        moments = [jnp.concatenate(self.autoencoder.posterior(params, image), axis=-1) for image in sides]
        return {"row": jnp.stack(moments, 1).astype(jnp.float16)}

    def encode(self, params: Any, images: Images, machine: parallel.Machine) -> np.ndarray:
        """The rows of all images of an evaluation's padded batches, in the source's order."""
        return rows_of(Latents.rows, self, params, images, machine)["row"]

    def kept(self, params: Any, images: Images, machine: parallel.Machine, folder: Path, of: str) -> np.ndarray:
        """As `encode`, from a file in the folder if every process finds one of this VAE, this size and these images.

        A folder that cannot be written costs the time of encoding, and no more.

        Args: of: names the images and what else decides the rows' last bits: devices, batch.
        """
        file = folder / f"latents-{tree.digest(params, header=f'{self} {of}')}.npy"
        rows = _read(file)
        missing = machine.any(rows is None)
        if rows is not None and not missing:
            return rows
        rows = self.encode(params, images, machine)
        for turn in (True, False):  # the first process writes, then those that do not see its disk
            if machine.primary is turn and not file.is_file():
                _write(file, rows)
            machine.barrier("latents")
        return rows if (from_file := _read(file)) is None else from_file

    def draw(
        self, row: Array, augment: Augment, k_augment: Key[Array, " B"], k_latent: Key[Array, " B"]
    ) -> Float[Array, "B h w C"]:
        """Latents from the posteriors [b, ...], each of one side of its image."""
        side = side_of(augment, k_augment) if self.flip else jnp.zeros(len(row), jnp.int32)
        mean, std = jnp.split(row[jnp.arange(len(row)), side].astype(jnp.float32), 2, axis=-1)
        return mean + std * noise.normal_like(k_latent, mean.shape[1:])

    def mean(self, row: Array) -> Float[Array, "B h w C"]:
        """The middle of the posteriors, of images as they are."""
        return jnp.split(row[:, 0].astype(jnp.float32), 2, axis=-1)[0]


def _read(file: Path) -> np.ndarray | None:
    """The rows of a file, which stay on the disk; None where there is none, or no whole one."""
    try:
        return np.load(file, mmap_mode="r")
    except (OSError, EOFError, ValueError):
        return None


def _write(file: Path, rows: np.ndarray) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as content:
            np.save(content, rows)
        sweep(file.parent, age_secs=3600.0)  # of processes that were killed; others may be writing now
    except OSError as error:
        _LOG.warning("Latents cannot be kept (%s), so they are encoded again next time: set latents.keep.", error)


def side_of(augment: Augment, keys: Key[Array, " B"]) -> Int[Array, " B"]:
    """Which way an augmentation that only flips turns each image: two pixels, 0 and 1, go the same way."""
    none = jnp.zeros((len(keys), 1))
    pair = jnp.broadcast_to(jnp.array([0.0, 1.0])[None, :, None], (len(none), 1, 2, 1))
    return augment(keys, pair, none)[0][:, 0, 0, 0].astype(jnp.int32)
