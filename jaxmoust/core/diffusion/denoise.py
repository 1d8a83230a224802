"""Denoisers: networks of every convention behind one contract, `denoise(x, sigma) -> x0`.

x [B, H, W, C] = x0 + sigma * noise with sigma [B] > 0; the answer estimates E[x0 | x]. Loss, guidance and
solvers know this contract only, so every generator is trained by one loss and sampled by every solver.
A network is `net(x, c) -> raw`, x and raw [B, H, W, C], c [B]; class labels, parameters and dropout keys are
bound by the caller.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from jaxmoust.core.examples import spread

Image = Float[Array, "B H W C"]
PerExample = Float[Array, " B"]
Denoiser = Callable[[Array, Array], Array]
Net = Callable[[Array, Array], Array]


def precondition_edm(net: Net, sigma_data: float = 0.5) -> Denoiser:
    """Wraps a raw network so that its input and its target have unit variance at every sigma.

    Args:
        net: gets c = log(sigma) / 4.
        sigma_data: standard deviation of the clean data, in units of the [-1, 1] range.
    Raises: ValueError: sigma_data <= 0.
    Source: Karras et al. 2022 (2206.00364), Table 1 and Eq. 7.
    """
    _check_sigma_data(sigma_data)

    def denoise(x: Image, sigma: PerExample) -> Image:
        c_noise = jnp.log(sigma) / 4
        sigma = spread(sigma, x)
        variance = sigma**2 + sigma_data**2
        c_skip = sigma_data**2 / variance
        c_out = sigma * sigma_data / jnp.sqrt(variance)
        c_in = 1 / jnp.sqrt(variance)
        return c_skip * x + c_out * net(c_in * x, c_noise)

    return denoise


def precondition_eps(net: Net, table: Float64[np.ndarray, " T"]) -> Denoiser:
    """Wraps a network that predicts the noise: x0 = x - sigma * eps.

    Args:
        net: gets x / sqrt(1 + sigma^2), which is DDPM's x_t, and c = the timestep in [0, T-1], fractional
            between the table's levels.
        table: noise level of each timestep, ascending (`noise.sigmas_from_betas`).
    Source: Ho et al. 2020 (2006.11239), Eq. 11; in sigma coordinates Karras et al. 2022, Table 1 (VP).
    """
    timestep_of = _timesteps(table)

    def denoise(x: Image, sigma: PerExample) -> Image:
        timestep = timestep_of(sigma)
        sigma = spread(sigma, x)
        return x - sigma * net(x / jnp.sqrt(1 + sigma**2), timestep)

    return denoise


def precondition_v(net: Net, table: Float64[np.ndarray, " T"]) -> Denoiser:
    """Wraps a network that predicts v = alpha * eps - sin * x0, where (alpha, sin) = (1, sigma) / sqrt(1 + sigma^2).

    Args: as `precondition_eps`.
    Source: Salimans & Ho 2022 (2202.00512), appendix D: x0 = alpha * x_t - sin * v.
    """
    timestep_of = _timesteps(table)

    def denoise(x: Image, sigma: PerExample) -> Image:
        timestep = timestep_of(sigma)
        sigma = spread(sigma, x)
        alpha = 1 / jnp.sqrt(1 + sigma**2)
        return alpha**2 * x - sigma * alpha * net(alpha * x, timestep)

    return denoise


def precondition_flow(net: Net, num_timesteps: int = 1000) -> Denoiser:
    """Wraps a network that predicts the velocity noise - x0 at x_t = (1 - s) x0 + s noise.

    Divided by 1 - s, x_t is x0 + sigma noise with sigma = s / (1 - s): x0 = x_t - s v, and an Euler step in s is one in
    sigma.

    Args:
        net: gets x_t = x / (1 + sigma), and c = num_timesteps * s.
    Source: Esser et al. 2024 (2403.03206), Eqs. 1 and 13; Liu et al. 2022 (2209.03003).
    """

    def denoise(x: Image, sigma: PerExample) -> Image:
        s = sigma / (1 + sigma)
        x_t = x / spread(1 + sigma, x)
        return x_t - spread(s, x) * net(x_t, num_timesteps * s)

    return denoise


def guide(denoise_cond: Denoiser, denoise_uncond: Denoiser, guidance: float) -> Denoiser:
    """Moves from the unconditional estimate through the conditional one: uncond + guidance * (cond - uncond).

    guidance 1 is off and returns `denoise_cond` itself, so that nothing is evaluated twice.

    Source: Ho & Salimans 2022 (2207.12598), Eq. 6, with guidance = 1 + w.
    """
    if guidance == 1:
        return denoise_cond

    def denoise(x: Image, sigma: PerExample) -> Image:
        uncond = denoise_uncond(x, sigma)
        return uncond + guidance * (denoise_cond(x, sigma) - uncond)

    return denoise


def guide_jointly(denoise_both: Denoiser, guidance: float | Array) -> Denoiser:
    """As `guide`, with one evaluation on twice as many examples; guidance may be an array, and 1 is not off.

    Args:
        denoise_both: on [2 B, ...]: conditional on the first half of its examples, unconditional on the second.
    """

    def denoise(x: Image, sigma: PerExample) -> Image:
        cond, uncond = jnp.split(denoise_both(jnp.concatenate([x, x]), jnp.concatenate([sigma, sigma])), 2)
        return uncond + guidance * (cond - uncond)

    return denoise


def clip_x0(denoise: Denoiser, limit: float = 1.0) -> Denoiser:
    """Clips the estimate to [-limit, limit], as DDPM does when it samples. Not for latents, not for training."""
    return lambda x, sigma: jnp.clip(denoise(x, sigma), -limit, limit)


def edm_weight(sigma: PerExample, sigma_data: float = 0.5) -> PerExample:
    """Weight of the x0 error under which EDM's network sees a unit-variance target: 1 / c_out^2."""
    _check_sigma_data(sigma_data)
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def eps_weight(sigma: PerExample) -> PerExample:
    """Weight that turns the x0 error into |eps - eps_hat|^2, DDPM's simple loss (Ho et al. 2020, Eq. 14)."""
    return 1 / sigma**2


def v_weight(sigma: PerExample) -> PerExample:
    """Weight that turns the x0 error into |v - v_hat|^2 (Salimans & Ho 2022, section 4: SNR + 1)."""
    return (1 + sigma**2) / sigma**2


def flow_weight(sigma: PerExample) -> PerExample:
    """Weight that turns the x0 error into that of the velocity, as |x0 - x0_hat| = s |v - v_hat| (2403.03206, Eq. 4).

    diffusers' training scripts of Stable Diffusion 3 take weight 1 unless told `--precondition_outputs=0`.
    """
    return jnp.square((1 + sigma) / sigma)


def diffusion_loss(denoise: Denoiser, x0: Image, sigma: PerExample, noise: Image, weight: PerExample) -> PerExample:
    """Computes weight * |denoise(x0 + sigma * noise, sigma) - x0|^2, averaged over the pixels of each example.

    With `edm_weight`, `eps_weight`, `v_weight` or `flow_weight` this is the EDM, DDPM, v or flow-matching loss.
    """
    error = denoise(x0 + spread(sigma, x0) * noise, sigma) - x0
    return weight * jnp.mean(jnp.square(error), axis=(1, 2, 3))


def _timesteps(table: Float64[np.ndarray, " T"]) -> Callable[[Array], Array]:
    """Inverts the table: sigma -> fractional timestep, linear in log sigma, held constant beyond the ends."""
    if not (len(table) > 1 and table[0] > 0 and np.all(np.diff(table) > 0)):
        raise ValueError("the table of noise levels must hold at least 2 positive levels in ascending order")
    log_table, timesteps = np.log(table), np.arange(len(table))

    def timestep_of(sigma: PerExample) -> PerExample:
        levels, values = jnp.asarray(log_table, sigma.dtype), jnp.asarray(timesteps, sigma.dtype)
        return jnp.interp(jnp.log(sigma), levels, values)

    return timestep_of


def _check_sigma_data(sigma_data: float) -> None:
    if not sigma_data > 0:
        raise ValueError(f"got sigma_data={sigma_data}. Give the data's standard deviation, > 0 (0.5 for most images).")
