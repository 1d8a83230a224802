"""The task of fine-tuning Stable Diffusion on a data set's own images: the whole U-Net, or adapters of low rank.

The network learns what it was trained on: its own prediction, at its own noise levels, of latents of its own VAE, under
its own text encoder. What is not trained is an argument of every step (`frozen`) and never checkpointed.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxmoust.core import denoise, noise
from jaxmoust.core.augment import Augment
from jaxmoust.core.state import TrainState
from jaxmoust.models import lora
from jaxmoust.runtime import parallel
from jaxmoust.train.loop import Batch, Evaluation, gather_rows, to_unit
from jaxmoust.train.noised import loss_at_fixed_noise


@dataclass(frozen=True)
class Finetune:
    """Trains a pipeline's U-Net, or adapters, on images and the prompts of their classes.

    Args:
        pipeline: a `StableDiffusion`.
        num_classes: K. image_shape: (H, W, C) of the images as the loader delivers them.
        image_px: the side they are brought to before the VAE sees them.
        augment: what they go through before that; it must not mix labels.
        caption_dropout: the share of examples trained on the empty prompt, which guidance needs.
        min_snr: gamma of Hang et al. 2023 (2303.09556), Eq. 8, which bounds the weight of low noise; 0 is off.
        rank: of adapters; 0 trains the whole U-Net. alpha: their scale is alpha / rank.
        targets: the matrices of the U-Net that are adapted, as in `lora.targets`.
        text_targets: those of the text encoder; () leaves it alone.
    Raises: ValueError: what could not train.
    """

    pipeline: Any
    num_classes: int
    image_shape: tuple[int, int, int]
    image_px: int
    augment: Augment = Augment()
    caption_dropout: float = 0.1
    min_snr: float = 0.0
    rank: int = 0
    alpha: float = 0.0
    targets: tuple[str, ...] = lora.ATTENTION
    text_targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what could not train, before any work starts."""
        if not 0.0 <= self.caption_dropout < 1.0:
            raise ValueError(f"caption_dropout {self.caption_dropout}: allowed are 0 (off) up to, not including, 1.")
        if self.min_snr < 0 or self.rank < 0 or (self.rank > 0) != (self.alpha > 0):
            raise ValueError(
                f"min_snr {self.min_snr}, rank {self.rank}, alpha {self.alpha}: allowed are numbers from 0, and an "
                "alpha above 0 exactly where there is a rank."
            )
        if self.text_targets and not self.rank:
            raise ValueError(f"text_targets {self.text_targets} are adapted, which needs a rank above 0.")
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("augment.mixup and augment.cutmix blend classes; a generator's must be 0.")
        self.pipeline.latent_shape(self.image_px)

    @property
    def scale(self) -> float:
        """What adapters are multiplied with."""
        return self.alpha / self.rank

    def frozen(self, params: Any, prompts: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
        """Lays out what the steps use and do not train; text is encoded here, once, unless its encoder learns.

        Args:
            params: of the pipeline. prompts: of each class; classes with fewer repeat theirs.
        Raises: ValueError: another number of classes, or a prompt that is too long.
        """
        if len(prompts) != self.num_classes:
            raise ValueError(f"Got prompts of {len(prompts)} classes, the images have {self.num_classes}.")
        most = max(map(len, prompts))
        ids = np.stack([self.pipeline.tokenize([some[i % len(some)] for i in range(most)]) for some in prompts])
        counts = np.array([len(some) for some in prompts], np.int32)
        empty = self.pipeline.tokenize([""])
        frozen = {"vae": params["vae"], "num_prompts": counts}
        if self.rank:
            frozen["unet"] = params["unet"]
        if self.text_targets:
            return {**frozen, "text_encoder": params["text_encoder"], "ids": ids, "no_ids": empty[0]}
        encode = jax.jit(self.pipeline.encode_text)
        text = {"text_encoder": params["text_encoder"]}
        states = [np.stack([np.asarray(encode(text, row[None]))[0] for row in some]) for some in ids]
        return {**frozen, "states": np.stack(states), "no_states": np.asarray(encode(text, empty))[0]}

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns fresh adapters; or zeros in the place of the U-Net, which `start` fills."""
        shapes = self._shapes()
        if self.rank:
            return self._init_adapters(key, shapes), {}
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes["unet"]), {}

    def start(self, params: Any) -> Callable[[TrainState], TrainState] | None:
        """What puts the pipeline's U-Net into a fresh state; adapters start as they are."""
        if self.rank:
            return None

        def put(state: TrainState) -> TrainState:
            ema = None if state.ema is None else {**state.ema, "params": params["unet"]}
            return state.replace(params=params["unet"], ema=ema)

        return put

    def tuned(self, params: Any, trained: Any) -> dict[str, Any]:
        """The pipeline's parameters with what was trained in them: adapters merged, or the U-Net replaced."""
        return lora.merge(params, trained, self.scale) if self.rank else {**params, "unet": trained}

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """The weighted error of the network's own prediction, its mean over the rows."""
        split = jax.vmap(lambda key: jax.random.split(key, 6), out_axes=1)
        k_augment, k_latent, k_prompt, k_drop, k_sigma, k_noise = split(keys)
        none = jnp.zeros((len(batch["label"]), 1))
        image, _ = self.augment(k_augment, to_unit(batch["image"]), none)
        x0 = self.pipeline.encode_image(frozen, self._as_seen(image), k_latent)
        count = frozen["num_prompts"][batch["label"]]
        prompt = jax.vmap(lambda key, n: jax.random.randint(key, (), 0, n))(k_prompt, count)
        dropped = jax.vmap(lambda key: jax.random.bernoulli(key, self.caption_dropout))(k_drop)
        denoiser = self._denoiser(params, frozen, batch["label"], prompt, dropped)
        sigma = noise.uniform_sigma(k_sigma, self.pipeline.table)
        x_noise = noise.normal_like(k_noise, x0.shape[1:])
        loss = denoise.diffusion_loss(denoiser, x0, sigma, x_noise, self.weight(sigma))
        return loss.mean(), ({}, stats)

    def weight(self, sigma: Array) -> Array:
        """The weight of the error in x0 that makes it the error of what the network predicts, bounded by min_snr."""
        snr = 1 / jnp.square(sigma)
        bounded = jnp.minimum(snr, self.min_snr) if self.min_snr else snr
        if self.pipeline.prediction == "epsilon":
            return denoise.eps_weight(sigma) * bounded / snr
        return denoise.v_weight(sigma) * (bounded / (snr + 1) if self.min_snr else 1.0)

    def evaluate(
        self, state: TrainState, frozen: Any, data: dict[str, Iterable[Batch]], machine: parallel.Machine
    ) -> Evaluation:
        """The loss at fixed noise, for each named set of images, under the first prompt of each class.

        Returns: metrics `loss_NAME`, as `Diffuse.evaluate`; without `min_snr`.
        """
        params = state.ema["params"] if state.ema else state.params
        run = _noised_loss(self, machine)
        variables = {"params": params, "frozen": frozen}
        rows = {name: gather_rows(run, variables, batches, machine) for name, batches in data.items()}
        return Evaluation({f"loss_{k}": float(np.mean(v["loss"], dtype=np.float64)) for k, v in rows.items()})

    def _denoiser(self, params: Any, frozen: Any, label: Array, prompt: Array, dropped: Array) -> denoise.Denoiser:
        """The network as it is now, each example under one of its class's prompts, or under none."""
        parts = {part: frozen[part] for part in ("unet", "text_encoder") if part in frozen}
        unet = lora.merge(parts, params, self.scale) if self.rank else {"unet": params}
        if self.text_targets:
            ids = jnp.where(dropped[:, None], frozen["no_ids"], frozen["ids"][label, prompt])
            states = self.pipeline.encode_text(unet, ids)
        else:
            states = jnp.where(dropped[:, None, None], frozen["no_states"], frozen["states"][label, prompt])
        return self.pipeline.denoiser(unet["unet"], states)

    def _as_seen(self, image: Array) -> Array:
        """Images [B, H, W, C] as the VAE wants them: colour, and of its size."""
        batch, _, _, channels = image.shape
        image = jnp.broadcast_to(image, (*image.shape[:3], 3)) if channels == 1 else image
        return jax.image.resize(image, (batch, self.image_px, self.image_px, 3), "linear")

    def _shapes(self) -> dict[str, Any]:
        return self.pipeline.parameter_shapes()

    def _init_adapters(self, key: jax.Array, shapes: Any) -> lora.Adapters:
        parts = [("unet", self.targets), *([("text_encoder", self.text_targets)] if self.text_targets else [])]
        made: lora.Adapters = {}
        for number, (part, names) in enumerate(parts):
            made |= lora.init(jax.random.fold_in(key, number), {part: shapes[part]}, self.rank, names)
        return made


@functools.lru_cache(maxsize=8)
def _noised_loss(task: Finetune, machine: parallel.Machine) -> Callable:
    def problem(variables: Any, batch: Batch) -> tuple:
        frozen, label = variables["frozen"], batch["label"]
        x0 = task.pipeline.encode_image(frozen, task._as_seen(to_unit(batch["image"])))
        first, kept = jnp.zeros_like(label), jnp.zeros(label.shape, bool)
        return task._denoiser(variables["params"], frozen, label, first, kept), x0

    plain = denoise.eps_weight if task.pipeline.prediction == "epsilon" else denoise.v_weight
    return loss_at_fixed_noise(problem, lambda keys: noise.uniform_sigma(keys, task.pipeline.table), plain, machine)
