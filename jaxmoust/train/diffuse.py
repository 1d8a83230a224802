"""The task of learning to denoise images: a generator trained from nothing inside the data set (DDPM, EDM)."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.augment.nonleaky import LABEL_DIM, NonLeaky
from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.core.diffusion.methods import Method, class_denoiser
from jaxmoust.core.state import TrainState
from jaxmoust.runtime import parallel
from jaxmoust.train.eval_noise import loss_at_fixed_noise
from jaxmoust.train.loop import Batch, Evaluation, gather_rows, to_unit


@dataclass(frozen=True)
class Diffuse:
    """Trains `denoise(x, sigma) -> x0` by the method's noise and weight, conditional on the class.

    Args:
        model: `model(x [B, H, W, C], c [B], label [B], keys [B], train) -> [B, H, W, C]`; label K is "no class".
        method: EDM or DDPM.
        num_classes: K >= 1. A model of one class is an unconditional one.
        image_shape: (H, W, C).
        augment: what training images go through; it must not mix labels.
        label_dropout: the share of examples trained as "no class", for classifier-free guidance
            (Ho & Salimans 2022, 2207.12598); 0 is off.
        nonleaky: what training images go through after `augment`; the model is told, as `augment_label` [B, 9]
            (zeros when it is asked for none), so it must have `augment_dim` 9.
    """

    model: nn.Module
    method: Method
    num_classes: int
    image_shape: tuple[int, int, int]
    augment: Augment = Augment()
    label_dropout: float = 0.0
    nonleaky: NonLeaky = NonLeaky()

    def __post_init__(self) -> None:
        """Refuses what could not mean anything, before any work starts."""
        if self.num_classes < 1:
            raise ValueError(f"num_classes {self.num_classes}: allowed are 1 (images of one kind) and up.")
        if not 0.0 <= self.label_dropout < 1.0:
            raise ValueError(f"label_dropout {self.label_dropout}: allowed are 0 (off) up to, not including, 1.")
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("augment.mixup and augment.cutmix blend classes; a generator's must be 0.")
        augment_dim = getattr(self.model, "augment_dim", 0)
        if self.nonleaky.probability and augment_dim != LABEL_DIM:
            raise ValueError(
                f"model.augment_dim {augment_dim}: a network trained with augment.nonleaky > 0 must hear of it, "
                f"so allowed is {LABEL_DIM}."
            )

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns fresh (params, no statistics)."""
        label = jnp.zeros((1,), jnp.int32)
        variables = self.model.init(key, jnp.zeros((1, *self.image_shape)), jnp.zeros((1,)), label)
        return variables["params"], {}

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """The method's weighted denoising error, its mean over the rows."""
        split = jax.vmap(lambda k: jax.random.split(k, 6), out_axes=1)
        k_augment, k_label, k_sigma, k_noise, k_dropout, k_nonleaky = split(keys)
        target = jnp.zeros((batch["label"].shape[0], 1))
        x0, _ = self.augment(k_augment, to_unit(batch["image"]), target)
        augment_label = None
        if self.nonleaky.probability:
            x0, augment_label = self.nonleaky(k_nonleaky, x0)
        label = batch["label"]
        if self.label_dropout:
            dropped = jax.vmap(lambda k: jax.random.bernoulli(k, self.label_dropout))(k_label)
            label = jnp.where(dropped, self.num_classes, label)
        sigma = self.method.sample_sigma(k_sigma)
        x_noise = noise.normal_like(k_noise, self.image_shape)
        denoiser = class_denoiser(self.method, self.model.apply, params, label, k_dropout, True, augment_label)
        loss = denoise.diffusion_loss(denoiser, x0, sigma, x_noise, self.method.weight(sigma))
        return loss.mean(), ({}, stats)

    def evaluate(
        self, state: TrainState, frozen: Any, data: dict[str, Iterable[Batch]], machine: parallel.Machine
    ) -> Evaluation:
        """The loss at fixed noise, for each named set of images.

        A model that copies its training images loses less on them than on `heldout` ones: the gap is the first
        sign of memorisation.

        Args:
            data: name -> padded batches with image, label, mask and index.
        Returns: metrics `loss_NAME`, each the mean over images and `NUM_EVAL_DRAWS` fixed draws of noise.
        """
        params = state.ema["params"] if state.ema else state.params
        run = _noised_loss(self, machine)
        rows = {name: gather_rows(run, params, batches, machine) for name, batches in data.items()}
        return Evaluation({f"loss_{k}": float(np.mean(v["loss"], dtype=np.float64)) for k, v in rows.items()})


@functools.lru_cache(maxsize=32)
def _noised_loss(task: Diffuse, machine: parallel.Machine) -> Callable:
    def problem(params: Any, batch: Batch) -> tuple:
        denoiser = class_denoiser(task.method, task.model.apply, params, batch["label"])
        return denoiser, to_unit(batch["image"])

    return loss_at_fixed_noise(problem, task.method.sample_sigma, task.method.weight, machine)
