"""The text encoder of the embedded pipeline learns what captions mean, as CLIP's does: from images they are true of.

Radford et al. 2021 (2103.00020): an image encoder and the text encoder learn to agree on pairs. Here a caption may be
true of many images of a batch, so that the target is all of them, evenly. What stands for a text is the mean state of
all places from the end of the text on: CLIP takes the first of them, a U-Net attends to every one.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxmoust.core.optim import warmup_cosine
from jaxmoust.models.stable_diffusion.pipeline import Loaded

BATCH_SIZE, LEARNING_RATE = 256, 1e-3


class ImageEncoder(nn.Module):
    """A small convolutional network: images [B, 32, 32, 1] in [0, 1] to [B, dim]."""

    dim: int

    @nn.compact
    def __call__(self, image: Float[Array, "B 32 32 1"]) -> Float[Array, "B {self.dim}"]:
        x = 2 * image - 1
        for channels in (16, 32, 64):
            x = nn.relu(nn.GroupNorm(num_groups=8)(nn.Conv(channels, (3, 3), strides=2)(x)))
        return nn.Dense(self.dim)(x.reshape(len(x), -1))


def text_states_mean(loaded: Loaded, text_encoder: Any, ids: Int[Array, "B L"]) -> Float[Array, "B D"]:
    """The mean state over the places from the end of each text on; padding is more of the same token."""
    states = loaded.pipeline.encode_text({"text_encoder": text_encoder}, ids)
    ended = (ids == ids.max())[..., None]
    return (states * ended).sum(1) / ended.sum(1)


def agreement_loss(scores: Float[Array, "B B"], true: Float[Array, "B B"]) -> Float[Array, ""]:
    """Cross-entropy both ways of scores [image, caption] against which captions are true of which images."""
    losses = []
    for score, target in ((scores, true), (scores.T, true.T)):
        target = target / target.sum(1, keepdims=True)
        losses.append(optax.softmax_cross_entropy(score, target).mean())
    return (losses[0] + losses[1]) / 2


def learn_captions(
    loaded: Loaded,
    images: Float[np.ndarray, "N 32 32"],
    kinds: Int[np.ndarray, " N"],
    captions: list[tuple[str, ...]],
    num_steps: int,
    seed: int,
) -> tuple[Loaded, float]:
    """Trains the text encoder beside an image encoder that is then thrown away.

    Args:
        images: grey, in [0, 1]. kinds: of each image, a place in `captions`, which has as many for every kind.
    Returns: the pipeline with its text encoder trained; the mean loss over the last tenth of the steps.
    """
    rng = np.random.default_rng(seed)
    texts = sorted({text for some in captions for text in some})
    number = {text: i for i, text in enumerate(texts)}
    of_kind = np.array([[number[text] for text in some] for some in captions])
    is_true = np.zeros((len(captions), len(texts)), np.float32)
    np.put_along_axis(is_true, of_kind, 1.0, 1)
    ids = loaded.pipeline.tokenize(texts)
    image_encoder = ImageEncoder(loaded.pipeline.text_encoder.hidden_size)
    params = {
        "image": image_encoder.init(jax.random.key(seed), jnp.zeros((1, *images.shape[1:], 1))),
        "text": loaded.params["text_encoder"],
        "log_scale": jnp.log(10.0),
    }
    tx = optax.adam(warmup_cosine(LEARNING_RATE, num_steps, num_steps // 20))

    @jax.jit
    def update(params: Any, opt_state: Any, image: Array, ids: Array, true: Array) -> tuple:
        def loss(params: Any) -> Array:
            of_image = image_encoder.apply(params["image"], image)
            of_text = text_states_mean(loaded, params["text"], ids)
            both = [x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (of_image, of_text)]
            return agreement_loss(jnp.exp(params["log_scale"]) * both[0] @ both[1].T, true)

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    opt_state, losses = tx.init(params), []
    for _ in range(num_steps):
        row = rng.integers(len(images), size=BATCH_SIZE)
        text = of_kind[kinds[row], rng.integers(of_kind.shape[1], size=BATCH_SIZE)]
        batch = images[row, ..., None].astype(np.float32), ids[text], is_true[kinds[row]][:, text]
        params, opt_state, value = update(params, opt_state, *batch)
        losses.append(float(value))
    trained = {**loaded.params, "text_encoder": jax.device_get(params["text"])}
    return Loaded(loaded.pipeline, trained), float(np.mean(losses[-max(1, num_steps // 10) :]))
