"""How well a denoiser does at fixed noise: the evaluation that diffusion tasks share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.runtime import parallel
from jaxmoust.train.loop import Batch, gathered

NUM_EVAL_DRAWS = 4


def loss_at_fixed_noise(
    problem: Callable[[Any, Batch], tuple[denoise.Denoiser, Array]],
    draw: Callable[[Array], Array],
    weight: Callable[[Array], Array],
    machine: parallel.Machine,
) -> Callable:
    """Compiles the loss of each image, the mean over `NUM_EVAL_DRAWS` draws of noise that its index alone decides.

    Args:
        problem: (variables, batch) -> (the denoiser, what it should find, [B, H, W, C]).
        draw, weight: of noise levels, as a method has them.
    Returns: what `loop.gather_rows` runs.
    """

    def noised_loss(variables: Any, batch: Batch) -> dict[str, Array]:
        denoiser, x0 = problem(variables, batch)

        def one_draw(number: Array) -> Array:
            key = jax.random.fold_in(jax.random.key(0), number)
            keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)), out_axes=1)(batch["index"])
            sigma = draw(keys[0])
            x_noise = noise.normal_like(keys[1], x0.shape[1:])
            return denoise.diffusion_loss(denoiser, x0, sigma, x_noise, weight(sigma))

        return {"loss": jax.lax.map(one_draw, jnp.arange(NUM_EVAL_DRAWS)).mean(0)}

    return gathered(noised_loss, machine)
