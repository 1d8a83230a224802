"""The autoencoder task: the KL-VAE of a Stable Diffusion pipeline.

There is no perceptual and no adversarial term, for which networks of others would be needed: the error is counted
pixel by pixel, which serves small, plain images; of photographs such a VAE leaves out the fine texture.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.checks import require
from jaxmoust.core.diffusion import noise
from jaxmoust.core.state import TrainState
from jaxmoust.models.stable_diffusion import Loaded
from jaxmoust.models.stable_diffusion.autoencoder import to_vae_input
from jaxmoust.runtime import parallel
from jaxmoust.train import loop
from jaxmoust.train.diffuse import refuse_blending
from jaxmoust.train.loop import Batch, Evaluation, Sets, mean_of, normalize


@dataclass(frozen=True)
class Autoencode:
    """Trains the VAE of a pipeline to give images back: Kingma & Welling 2013 (1312.6114), Rombach et al. 2022
    (2112.10752), appendix G.

    The loss of an image is mean(|e| + e^2) + kl_weight * mean(KL), e = what is drawn from one draw of the posterior
    less the image, in units of the [-1, 1] range. Both means are over elements: e's over the image's pixels and
    channels, KL's, against the standard normal distribution and in nats, over the latent's numbers. A weight w of sums
    over elements, as 1e-6 in the paper, is w * (numbers of a latent) / (numbers of an image) here.

    Trained is a tree of one branch, {"vae": ...}.

    Args:
        pipeline: a `StableDiffusion`.
        image_shape: (H, W, C) of the images as the loader delivers them.
        image_px: the side they are brought to before the VAE sees them.
        augment: what they go through before that; it must not mix labels.
        kl_weight: how much nearer to the standard normal distribution is worth; small, so that images stay sharp.
    Raises: ValueError: what could not train.
    """

    pipeline: Any
    image_shape: tuple[int, int, int]
    image_px: int
    augment: Augment = Augment()
    kl_weight: float = 1e-4

    def __post_init__(self) -> None:
        """Refuses what could not train, before any work starts."""
        require(self.kl_weight >= 0, "kl_weight", self.kl_weight, "numbers from 0 (off), such as 1e-4")
        refuse_blending(self.augment)
        self.pipeline.latent_shape(self.image_px)

    def frozen(self, *given: Any, **options: Any) -> dict[str, Any]:
        """What the steps use and do not train: nothing, as the VAE is alone."""
        return {}

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns zeros in the place of what `start` fills."""
        shapes = self.pipeline.parameter_shapes()["vae"]
        return {"vae": jax.tree.map(jnp.zeros_like, shapes)}, {}

    def start(self, params: Any) -> loop.Start:
        """What puts the pipeline's VAE into a fresh state."""
        return lambda state: loop.started_with(state, {"vae": params["vae"]})

    def fine_tuned(self, loaded: Loaded, trained: Any, metrics: dict[str, float]) -> Loaded:
        """The pipeline with the trained VAE in it, its latents scaled to a standard deviation of 1.

        Args:
            metrics: of `evaluate`, with `latent_std`.
        """
        vae = {**loaded.pipeline.configs["vae"], "scaling_factor": 1 / metrics["latent_std"]}
        pipeline = replace(loaded.pipeline, configs={**loaded.pipeline.configs, "vae": vae})
        return Loaded(pipeline, {**loaded.params, "vae": trained["vae"]})

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """The error of images drawn from the posterior, and the posterior's own, their mean over the rows."""
        k_augment, k_latent = jax.vmap(jax.random.split, out_axes=1)(keys)
        none = jnp.zeros((len(batch["label"]), 1))
        image, _ = self.augment(k_augment, normalize(batch["image"]), none)
        image = to_vae_input(image, self.image_px)
        mean, std = self.pipeline.posterior(params, image)
        latent = mean + std * noise.normal_like(k_latent, mean.shape[1:])
        error = reconstruction_error(self.pipeline.decode_latent(params, latent), image).mean()
        kl = kl_divergence(mean / self._scaling, std / self._scaling).mean()
        return error + self.kl_weight * kl, ({"error": error, "kl": kl}, stats)

    def evaluate(self, state: TrainState, frozen: Any, data: Sets, machine: parallel.Machine) -> Evaluation:
        """The error of images drawn from the posterior's mean, for each named set.

        Returns: metrics `loss_NAME`, the mean over the images; and, of the set "train", `latent_std`, the standard
            deviation of all numbers of all images' posterior means, without the scaling factor.
        """
        params = loop.variables_of(state)["params"]
        rows = {k: loop.rows_of(Autoencode.reconstruct, self, params, batches, machine) for k, batches in data.items()}
        metrics = {f"loss_{name}": mean_of(of_set["loss"]) for name, of_set in rows.items()}
        if "train" in rows:
            mean, square = (mean_of(rows["train"][name]) for name in ("mean", "square"))
            metrics["latent_std"] = math.sqrt(square - mean**2)
        return Evaluation(metrics)

    def reconstruct(self, params: Any, batch: Batch) -> dict[str, Array]:
        """The error of each image drawn from the posterior's mean; the mean of that, and of its square, unscaled."""
        image = to_vae_input(normalize(batch["image"]), self.image_px)
        mean, _ = self.pipeline.posterior(params, image)
        plain = mean / self._scaling
        return {
            "loss": reconstruction_error(self.pipeline.decode_latent(params, mean), image),
            "mean": plain.mean((1, 2, 3)),
            "square": jnp.square(plain).mean((1, 2, 3)),
        }

    @property
    def _scaling(self) -> float:
        """What the pipeline multiplies latents with, at present."""
        return self.pipeline.configs["vae"].get("scaling_factor", 0.18215)


def reconstruction_error(drawn: Array, image: Array) -> Array:
    """Mean of |e| + e^2 over the elements of each image, [B]: e^2 for large errors, |e| to keep edges sharp."""
    error = drawn - image
    return (jnp.abs(error) + jnp.square(error)).mean((1, 2, 3))


def kl_divergence(mean: Array, std: Array) -> Array:
    """KL(N(mean, std^2) || N(0, 1)) in nats, its mean over the elements of each latent, [B].

    Source: Kingma & Welling 2013 (1312.6114), appendix B.
    """
    return 0.5 * (jnp.square(mean) + jnp.square(std) - 1 - 2 * jnp.log(std)).mean((1, 2, 3))
