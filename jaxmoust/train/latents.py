"""Images as latents of a frozen VAE: encoded once, kept by content, drawn anew from the posterior at every step."""

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
from jaxmoust.runtime.paths import replacing
from jaxmoust.train.loop import Batch, Images, normalize, rows_of


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

    def kept(self, params: Any, images: Images, machine: parallel.Machine, folder: Path, digest: str) -> np.ndarray:
        """As `encode`, from a file in the folder if there is one of these images (digest), this VAE and this size."""
        file = folder / f"latents-{tree.digest(params, header=f'{self} {digest}')}.npy"
        if not machine.agree(file.is_file()):
            rows = self.encode(params, images, machine)
            if machine.primary:
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(file) as content:
                    np.save(content, rows)
            machine.barrier("latents")
        return np.load(file, mmap_mode="r")

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


def side_of(augment: Augment, keys: Key[Array, " B"]) -> Int[Array, " B"]:
    """Which way an augmentation that only flips turns each image: two pixels, 0 and 1, go the same way."""
    none = jnp.zeros((len(keys), 1))
    pair = jnp.broadcast_to(jnp.array([0.0, 1.0])[None, :, None], (len(none), 1, 2, 1))
    return augment(keys, pair, none)[0][:, 0, 0, 0].astype(jnp.int32)
