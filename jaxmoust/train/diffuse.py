"""The task of learning to denoise images: an internal generator, trained from scratch on the data set (DDPM, EDM)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.augment.nonleaky import LABEL_DIM, NonLeaky
from jaxmoust.core.checks import require
from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.core.diffusion.methods import Method, class_denoiser
from jaxmoust.core.state import TrainState
from jaxmoust.runtime import parallel
from jaxmoust.train.latents import Latents
from jaxmoust.train.loop import Batch, Evaluation, Sets, mean_losses, normalize, variables_of

NUM_EVAL_DRAWS = 4
SHARE = "0 (off) up to, not including, 1"


@dataclass(frozen=True)
class Diffuse:
    """Trains `denoise(x, sigma) -> x0` by the method's noise and weight, conditional on the class.

    Args:
        model: `model(x [B, H, W, C], c [B], label [B], keys [B], train) -> [B, H, W, C]`; label K is "no class".
        method: EDM, DDPM or Flow.
        num_classes: K >= 1. A model of one class is an unconditional one.
        image_shape: (H, W, C).
        augment: what training images go through; it must not mix labels.
        label_dropout: the share of examples trained as "no class", for classifier-free guidance
            (Ho & Salimans 2022, 2207.12598); 0 is off.
        nonleaky: what training images go through after `augment`; the model is conditioned on it by `augment_label` [B,
            9] (zeros when it is asked for none), so it must have `augment_dim` 9.
        latents: of a VAE, in whose place the model works: a batch's images are then their rows (`Latents.row`), and
            `augment` may flip and nothing else.
    """

    model: nn.Module
    method: Method
    num_classes: int
    image_shape: tuple[int, int, int]
    augment: Augment = Augment()
    label_dropout: float = 0.0
    nonleaky: NonLeaky = NonLeaky()
    latents: Latents | None = None

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """The shape of what is denoised."""
        return self.latents.shape if self.latents else self.image_shape

    @property
    def row(self) -> jax.ShapeDtypeStruct:
        """An image of a batch."""
        return self.latents.row if self.latents else jax.ShapeDtypeStruct(self.image_shape, np.uint8)

    def __post_init__(self) -> None:
        """Refuses what could not mean anything, before any work starts."""
        require(self.num_classes >= 1, "num_classes", self.num_classes, "1 (images of one kind) and up")
        require(0 <= self.label_dropout < 1, "label_dropout", self.label_dropout, SHARE)
        refuse_blending(self.augment)
        if self.latents and (self.nonleaky.probability or replace(self.augment, flip=False) != Augment()):
            raise ValueError(
                "Latents are encoded once, so augment may flip and nothing else: set the other augmentations off, or "
                "latents.path='' to train on pixels."
            )
        augment_dim = getattr(self.model, "augment_dim", 0)
        if self.nonleaky.probability and augment_dim != LABEL_DIM:
            raise ValueError(
                f"model.augment_dim {augment_dim}: a network trained with augment.nonleaky > 0 is conditioned on it, "
                f"expected {LABEL_DIM}."
            )

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns fresh (params, no statistics)."""
        label = jnp.zeros((1,), jnp.int32)
        variables = self.model.init(key, jnp.zeros((1, *self.x_shape)), jnp.zeros((1,)), label)
        return variables["params"], {}

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """The method's weighted denoising error, its mean over the rows."""
        split = jax.vmap(lambda k: jax.random.split(k, 6), out_axes=1)
        k_augment, k_label, k_sigma, k_noise, k_dropout, k_nonleaky = split(keys)
        augment_label = None
        if self.latents:
            x0 = self.latents.draw(batch["image"], self.augment, k_augment, k_nonleaky)
        else:
            target = jnp.zeros((batch["label"].shape[0], 1))
            x0, _ = self.augment(k_augment, normalize(batch["image"]), target)
        if self.nonleaky.probability:
            x0, augment_label = self.nonleaky(k_nonleaky, x0)
        label = batch["label"]
        if self.label_dropout:
            dropped = jax.vmap(lambda k: jax.random.bernoulli(k, self.label_dropout))(k_label)
            label = jnp.where(dropped, self.num_classes, label)
        sigma = self.method.sample_sigma(k_sigma)
        x_noise = noise.normal_like(k_noise, self.x_shape)
        denoiser = class_denoiser(self.method, self.model.apply, params, label, k_dropout, True, augment_label)
        loss = denoise.diffusion_loss(denoiser, x0, sigma, x_noise, self.method.weight(sigma))
        return loss.mean(), ({}, stats)

    def evaluate(self, state: TrainState, frozen: Any, data: Sets, machine: parallel.Machine) -> Evaluation:
        """The loss at fixed noise, for each named set of images.

        A model that copies its training images loses less on them than on `heldout` ones: the gap is the first
        sign of memorisation.

        Args:
            data: name -> padded batches with image, label, mask and index.
        Returns: metrics `loss_NAME`, each the mean over images and `NUM_EVAL_DRAWS` fixed draws of noise.
        """
        params = variables_of(state)["params"]
        return Evaluation(mean_losses(Diffuse.fixed_noise_loss, self, params, data, machine))

    def fixed_noise_loss(self, params: Any, batch: Batch) -> dict[str, Array]:
        """The loss of each image, see `fixed_noise_loss`."""
        denoiser = class_denoiser(self.method, self.model.apply, params, batch["label"])
        x0 = self.latents.mean(batch["image"]) if self.latents else normalize(batch["image"])
        return fixed_noise_loss(denoiser, x0, batch["index"], self.method.sample_sigma, self.method.weight)


def fixed_noise_loss(
    denoiser: denoise.Denoiser,
    x0: Array,
    index: Array,
    draw: Callable[[Array], Array],
    weight: Callable[[Array], Array],
) -> dict[str, Array]:
    """The loss of each image, the mean over `NUM_EVAL_DRAWS` draws of noise that its index alone decides.

    Args:
        x0: what the denoiser should find, [B, H, W, C].
        index: of each image in its set, [B].
        draw: of noise levels, as a method has it.
        weight: of the error at each noise level, as a method has it.
    Returns: {"loss": [B]}.
    """

    def one_draw(number: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(0), number)
        keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)), out_axes=1)(index)
        sigma = draw(keys[0])
        x_noise = noise.normal_like(keys[1], x0.shape[1:])
        return denoise.diffusion_loss(denoiser, x0, sigma, x_noise, weight(sigma))

    return {"loss": jax.lax.map(one_draw, jnp.arange(NUM_EVAL_DRAWS)).mean(0)}


def refuse_blending(augment: Augment) -> None:
    """Refuses augmentations that mix labels. Raises ValueError."""
    if augment.mixup or augment.cutmix:
        raise ValueError("augment.mixup and augment.cutmix blend classes; a generator's must be 0.")
