"""The task of fine-tuning Stable Diffusion on a data set's own images: the whole U-Net, adapters, or new words.

The network learns what it was trained on: its own prediction, at its own noise levels, of latents of its own VAE, under
its own text encoder. What is not trained is an argument of every step (`frozen`) and never checkpointed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.checks import require
from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.core.state import TrainState
from jaxmoust.models.stable_diffusion import Loaded, encode_prompts, lora, memory
from jaxmoust.models.stable_diffusion.autoencoder import to_vae_input
from jaxmoust.runtime import parallel
from jaxmoust.train import loop
from jaxmoust.train.diffuse import SHARE, fixed_noise_loss, refuse_blending
from jaxmoust.train.latents import side_of
from jaxmoust.train.loop import Batch, Evaluation, Images, Sets, normalize

# The number of the empty text, the first when sorted; and what the states of all texts may take on a device.
NO_TEXT, _MOST_STATES_BYTES = 0, 1 << 30


@dataclass(frozen=True)
class Finetune:
    """Trains parts of a pipeline on images and the prompts of their classes.

    Trained is a tree with one branch for each part that learns: the network ("unet" or "transformer") and CLIP's text
    encoders whole, "lora" the adapters of any, "tokens" [n, D] the last n rows of the text encoder's table of words
    (textual inversion, Gal et al. 2022, 2208.01618).

    Args:
        pipeline: a `StableDiffusion`.
        num_classes: K.
        image_shape: (H, W, C) of the images as the loader delivers them.
        image_px: the side they are brought to before the VAE sees them.
        augment: what they go through before that; it must not mix labels.
        caption_dropout: the share of examples trained on the empty prompt, which guidance needs.
        min_snr: gamma of Hang et al. 2023 (2303.09556), Eq. 8, which bounds the weight of low noise; 0 is off.
        rank: of adapters; 0 trains whole networks.
        alpha: what adapters are multiplied with is alpha / rank.
        targets: the matrices of the network that are adapted, as in `lora.targets`.
        text_targets: those of CLIP's text encoders; () adapts none.
        train_unet: without adapters, whether the network learns.
        train_text: whether CLIP's text encoders learn whole.
        num_tokens: how many words, the last of the tokenizer, have their vectors learnt.
        prior_weight: of the error on images of the untouched pipeline (batch["source"] above 0), which keep it from
            forgetting the class (Ruiz et al. 2023, 2208.12242, section 3.2).
        precompute: encode each image once, before the first step; `augment` may then flip and nothing else.
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
    train_unet: bool = True
    train_text: bool = False
    num_tokens: int = 0
    prior_weight: float = 1.0
    precompute: bool = False

    def __post_init__(self) -> None:
        """Refuses what could not train, before any work starts."""
        require(0 <= self.caption_dropout < 1, "caption_dropout", self.caption_dropout, SHARE)
        refuse_blending(self.augment)
        require(self.prior_weight >= 0, "method.prior_weight", self.prior_weight, "numbers from 0")
        if min(self.min_snr, self.rank, self.num_tokens) < 0 or (self.rank > 0) != (self.alpha > 0):
            raise ValueError(
                f"min_snr {self.min_snr}, rank {self.rank}, alpha {self.alpha}, num_tokens {self.num_tokens}: "
                "expected numbers from 0, and an alpha above 0 exactly where there is a rank."
            )
        if self.text_targets and not self.rank:
            raise ValueError(f"text_targets {self.text_targets} are adapted, which needs a rank above 0.")
        if self.train_text and (self.rank or self.num_tokens):
            raise ValueError(
                "train_text trains the whole text encoder, so rank must be 0 and there can be no new tokens. Adapt "
                "it by text_targets instead."
            )
        if not (self.train_unet or self.train_text or self.rank or self.num_tokens):
            raise ValueError("Nothing would be trained: set train_unet, train_text, a rank or tokens to learn.")
        if self.precompute and replace(self.augment, flip=False) != Augment():
            raise ValueError(
                "precompute encodes each image once, so augment may flip and nothing else: set precompute=False, or "
                "the other augmentations off."
            )
        self.pipeline.latent_shape(self.image_px)

    @property
    def scale(self) -> float:
        """What adapters are multiplied with."""
        return self.alpha / self.rank if self.rank else 0.0

    @property
    def whole(self) -> tuple[str, ...]:
        """The parts of the pipeline that are trained whole."""
        net = (self.pipeline.NET,) if self.train_unet and not self.rank else ()
        return net + (self.pipeline.towers if self.train_text else ())

    @property
    def text_learns(self) -> bool:
        """Whether text states change while training."""
        return bool(self.train_text or self.text_targets or self.num_tokens)

    def frozen(
        self,
        params: Any,
        prompts: tuple[tuple[str, ...], ...],
        images: Images | None = None,
        machine: parallel.Machine | None = None,
        captions: Sequence[str] = (),
        encode: bool = True,
        prior: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Lays out what the steps use and do not train; text is encoded here, once, unless its encoder learns.

        Where all states would take more than 1 GiB, the encoder reads the texts in every step.

        Args:
            params: of the pipeline.
            prompts: of each class; classes with fewer repeat theirs.
            captions: of each image, by its index in the batches, in the place of its class's prompts; () for none.
            images: all training images as padded evaluation batches, to precompute.
            machine: the devices to encode them on.
            encode: False leaves states as `jax.ShapeDtypeStruct`s, for who asks what a step takes.
            prior: what each image of the untouched pipeline was sampled by, by its index; () where there are none.
        Raises: ValueError: another number of classes, or a prompt that is too long.
        """
        if len(prompts) != self.num_classes:
            raise ValueError(f"Got prompts of {len(prompts)} classes, the images have {self.num_classes}.")
        most = max(map(len, prompts))
        texts = sorted({"", *captions, *prior, *(prompt for some in prompts for prompt in some)})
        number = {text: i for i, text in enumerate(texts)}
        of_class = np.array([[number[some[i % len(some)]] for i in range(most)] for some in prompts], np.int32)
        frozen: dict[str, Any] = {"num_prompts": np.array([len(some) for some in prompts], np.int32)}
        frozen["of_class"] = of_class
        for name, of_images in (("of_image", captions), ("of_prior", prior)):
            frozen |= {name: np.array([number[text] for text in of_images], np.int32)} if of_images else {}
        net = self.pipeline.net_params(params, self.image_px)
        frozen |= {"vae": params["vae"], **{part: tree for part, tree in net.items() if part not in self.whole}}
        if self.precompute and images is not None and machine is not None:
            frozen["latents"] = loop.rows_of(Finetune.posteriors, self, params["vae"], images, machine)
        encoders, ids = {part: params[part] for part in self.pipeline.tokenizers}, self.pipeline.tokenize(texts)
        states = jax.eval_shape(self.pipeline.encode_text, encoders, ids)
        if self.text_learns or memory.size_of(states) > _MOST_STATES_BYTES:
            return {**frozen, **{part: of for part, of in encoders.items() if part not in self.whole}, "ids": ids}
        if not encode:
            return {**frozen, "states": states}
        encoded = encode_prompts(Loaded(self.pipeline, params), texts)
        return {**frozen, "states": jax.tree.map(lambda *of: np.stack(of), *encoded)}

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns fresh adapters, and zeros in the place of what `start` fills."""
        shapes = self.pipeline.parameter_shapes()
        zeros = jax.tree.map(jnp.zeros_like, {part: shapes[part] for part in self.whole})
        if self.rank:
            zeros["lora"] = self._init_adapters(key, shapes)
        if self.num_tokens:
            zeros["tokens"] = jnp.zeros((self.num_tokens, _words(shapes).shape[-1]))
        return zeros, {}

    def start(self, params: Any) -> loop.Start:
        """What puts the pipeline's parameters into a fresh state; adapters start as they are."""
        plain = {part: lora.merged(params[part], jnp.float32) for part in self.whole}
        trained = jax.tree.map(lambda x: x.astype(jnp.float32), plain)
        if self.num_tokens:
            trained["tokens"] = jnp.asarray(_words(params)[-self.num_tokens :], jnp.float32)
        return lambda state: loop.started_with(state, {**state.params, **trained})

    def fine_tuned(self, params: Any, trained: Any) -> dict[str, Any]:
        """The pipeline's parameters with what was trained in them, adapters attached."""
        params = {**params, **{part: trained[part] for part in self.whole}}
        if self.num_tokens:
            params = {**params, "text_encoder": self._with_words(params["text_encoder"], trained["tokens"])}
        return lora.attach(params, trained["lora"], self.scale) if self.rank else params

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """The weighted error of the network's own prediction, its mean over the rows."""
        split = jax.vmap(lambda key: jax.random.split(key, 6), out_axes=1)
        k_augment, k_latent, k_prompt, k_drop, k_sigma, k_noise = split(keys)
        x0 = self._latents(frozen, batch, k_augment, k_latent)
        if "of_image" in frozen:
            asked = frozen["of_image"][batch["index"]]
        else:
            count = frozen["num_prompts"][batch["label"]]
            prompt = jax.vmap(lambda key, n: jax.random.randint(key, (), 0, n))(k_prompt, count)
            asked = frozen["of_class"][batch["label"], prompt]
        if "of_prior" in frozen:
            asked = jnp.where(batch["source"] > 0, frozen["of_prior"][batch["index"]], asked)
        dropped = jax.vmap(lambda key: jax.random.bernoulli(key, self.caption_dropout))(k_drop)
        denoiser = self._denoiser(params, frozen, jnp.where(dropped, NO_TEXT, asked))
        sigma = self.pipeline.sample_sigma(k_sigma)
        x_noise = noise.normal_like(k_noise, x0.shape[1:])
        loss = denoise.diffusion_loss(denoiser, x0, sigma, x_noise, self.weight(sigma))
        if self.prior_weight != 1:
            loss = loss * jnp.where(batch["source"] > 0, self.prior_weight, 1.0)
        return loss.mean(), ({}, stats)

    def weight(self, sigma: Array) -> Array:
        """The weight of the error in x0, see `StableDiffusion.weight`."""
        return self.pipeline.weight(sigma, self.min_snr)

    def evaluate(self, state: TrainState, frozen: Any, data: Sets, machine: parallel.Machine) -> Evaluation:
        """The loss at fixed noise, for each named set of images, under the first prompt of each class.

        Returns: metrics `loss_NAME`, as `Diffuse.evaluate`; without `min_snr`.
        """
        frozen = {k: v for k, v in frozen.items() if k != "latents"}
        variables = {"params": loop.variables_of(state)["params"], "frozen": frozen}
        return Evaluation(loop.mean_losses(Finetune.fixed_noise_loss, self, variables, data, machine))

    def fixed_noise_loss(self, variables: Any, batch: Batch) -> dict[str, Array]:
        """The loss of each image, see `diffuse.fixed_noise_loss`."""
        frozen, label = variables["frozen"], batch["label"]
        x0 = self.pipeline.encode_image(frozen, to_vae_input(normalize(batch["image"]), self.image_px))
        denoiser = self._denoiser(variables["params"], frozen, frozen["of_class"][label, 0])
        return fixed_noise_loss(denoiser, x0, batch["index"], self.pipeline.sample_sigma, self.pipeline.weight)

    def posteriors(self, vae: Any, batch: Batch) -> dict[str, Array]:
        """The VAE's posterior of images, and of mirror images where training flips: each [b, 1 or 2, h, w, c]."""
        seen = to_vae_input(normalize(batch["image"]), self.image_px)
        sides = [seen, seen[:, :, ::-1]] if self.augment.flip else [seen]
        mean, std = zip(*(self.pipeline.posterior({"vae": vae}, image) for image in sides), strict=True)
        return {"mean": jnp.stack(mean, 1), "std": jnp.stack(std, 1)}

    def _latents(self, frozen: Any, batch: Batch, k_augment: Key[Array, " B"], k_latent: Key[Array, " B"]) -> Array:
        """Draws each image's latent from the VAE's posterior: encoded now, or before the first step."""
        none = jnp.zeros((len(batch["label"]), 1))
        if "latents" not in frozen:
            image, _ = self.augment(k_augment, normalize(batch["image"]), none)
            return self.pipeline.encode_image(frozen, to_vae_input(image, self.image_px), k_latent)
        side = side_of(self.augment, k_augment)
        mean, std = (frozen["latents"][name][batch["index"], side] for name in ("mean", "std"))
        return mean + std * noise.normal_like(k_latent, mean.shape[1:])

    def _denoiser(self, params: Any, frozen: Any, asked: Array) -> denoise.Denoiser:
        """The network as it is now, each example under the text of this number, [b]."""
        parts = self.fine_tuned(frozen, params)
        text = jax.tree.map(lambda of: of[asked], frozen["ids"] if "ids" in frozen else frozen["states"])
        return self.pipeline.denoiser(parts, self.pipeline.encode_text(parts, text) if "ids" in frozen else text)

    def _init_adapters(self, key: jax.Array, shapes: Any) -> lora.Adapters:
        parts = [(self.pipeline.NET, self.targets)]
        parts += [(part, self.text_targets) for part in self.pipeline.towers if self.text_targets]
        adapters: lora.Adapters = {}
        for number, (part, names) in enumerate(parts):
            adapters |= lora.init(jax.random.fold_in(key, number), {part: shapes[part]}, self.rank, names)
        return adapters

    def _with_words(self, text_encoder: Any, tokens: Array) -> Any:
        """A text encoder whose last words have these vectors."""
        table = jnp.concatenate([_words({"text_encoder": text_encoder})[: -self.num_tokens], tokens])
        model = text_encoder["text_model"]
        embeddings = {**model["embeddings"], "token_embedding": {"embedding": table}}
        return {**text_encoder, "text_model": {**model, "embeddings": embeddings}}


def _words(params: Any) -> Array:
    """The text encoder's table of words, [V, D]."""
    return params["text_encoder"]["text_model"]["embeddings"]["token_embedding"]["embedding"]
