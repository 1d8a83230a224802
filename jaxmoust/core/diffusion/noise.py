"""Noise levels: those to sample on, schedules to train on, and keyed noise.

Everything is in sigma coordinates, x = x0 + sigma * noise, with images in [-1, 1]. Levels and tables are NumPy
constants, computed in float64, so that they are the same on every device and cost nothing under `jit`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Key

# A flow's first level, s = 1, as a sigma, which would be infinite. Its network tells timestep 999.9 from 1000: beside
# torch, latents of ten guided steps are 2e-2 off at 1e4, and 3e-5, which is float32's rounding, at 1e7.
LAST = 1e7


def karras_sigmas(
    num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Float32[np.ndarray, " {num_steps}+1"]:
    """Spaces sigma^(1/rho) evenly from sigma_max down to sigma_min, then appends 0.

    Raises: ValueError: num_steps < 1, or not 0 < sigma_min < sigma_max, or rho <= 0.
    Source: Karras et al. 2022 (2206.00364), Eq. 5.
    """
    _check_num_steps(num_steps)
    if not (0 < sigma_min < sigma_max and rho > 0):
        raise ValueError(
            f"got sigma_min={sigma_min}, sigma_max={sigma_max}, rho={rho}, expected 0 < sigma_min < sigma_max and "
            "rho > 0."
        )
    ramp = np.linspace(0.0, 1.0, num_steps)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return np.append((high + ramp * (low - high)) ** rho, 0.0).astype(np.float32)


def linear_betas(
    num_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Float64[np.ndarray, " {num_timesteps}"]:
    """Spaces DDPM's noise variances evenly.

    Raises: ValueError: num_timesteps < 1, or not 0 < beta_start <= beta_end < 1.
    Source: Ho et al. 2020 (2006.11239), section 4.
    """
    if num_timesteps < 1 or not 0 < beta_start <= beta_end < 1:
        raise ValueError(
            f"got num_timesteps={num_timesteps}, beta_start={beta_start}, beta_end={beta_end}, "
            "expected num_timesteps >= 1 and 0 < beta_start <= beta_end < 1"
        )
    return np.linspace(beta_start, beta_end, num_timesteps, dtype=np.float64)


def sigmas_from_betas(betas: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, " T"]:
    """Turns DDPM's variances into noise levels: sigma_t = sqrt((1 - abar_t) / abar_t), ascending in t.

    Dividing DDPM's x_t = sqrt(abar) x0 + sqrt(1 - abar) eps by sqrt(abar) gives x0 + sigma_t eps.
    """
    abar = np.cumprod(1.0 - betas)
    return np.sqrt((1.0 - abar) / abar)


def ddpm_sigmas(num_steps: int, table: Float64[np.ndarray, " T"]) -> Float32[np.ndarray, " {num_steps}+1"]:
    """Takes every (T/num_steps)-th level of the table, from t = T-1 downwards, then appends 0.

    The first step starts at full noise and all steps span the same number of timesteps ("trailing" spacing,
    Lin et al. 2023, 2305.08891, Table 2); num_steps = T is the whole table.

    Args:
        table: noise levels by timestep, ascending, as from `sigmas_from_betas`.
    Raises: ValueError: num_steps < 1 or > T.
    """
    _check_num_steps(num_steps)
    if num_steps > len(table):
        raise ValueError(f"got num_steps={num_steps}; the table has {len(table)} timesteps, take at most that many")
    timesteps = np.round(len(table) * (1.0 - np.arange(num_steps) / num_steps)).astype(np.int64) - 1
    return np.append(table[timesteps], 0.0).astype(np.float32)


def flow_sigmas(num_steps: int, shift: float = 1.0, num_timesteps: int = 1000) -> Float32[np.ndarray, " {num_steps}+1"]:
    """Spaces a flow's s evenly from 1 down, shifts it, and appends 0; in sigma = s / (1 - s), the first level is LAST.

    The shift s' = a s / (1 + (a - 1) s) is a factor, sigma' = a sigma. As torch's FlowMatchEulerDiscreteScheduler does,
    the lowest s is that of the first timestep, which is shifted twice.

    Raises: ValueError: num_steps < 1, or a shift or a number of timesteps that is not above 0.
    Source: Esser et al. 2024 (2403.03206), Eq. 23.
    """
    _check_num_steps(num_steps)
    if not (shift > 0 and num_timesteps > 0):
        raise ValueError(f"got shift={shift}, num_timesteps={num_timesteps}, expected both above 0.")
    s = np.linspace(1.0, shift / (num_timesteps - 1 + shift), num_steps)
    with np.errstate(divide="ignore"):
        return np.append(np.minimum(shift * s / (1 - s), LAST), 0.0).astype(np.float32)


def lognormal_sigma(keys: Key[Array, " B"], mean: float = -1.2, std: float = 1.2) -> Float[Array, " B"]:
    """Samples training noise levels with ln(sigma) ~ N(mean, std^2), one per key.

    In a flow this is the logit-normal s = sigma / (1 + sigma), and a shift by a adds ln(a) to the mean.

    Source: Karras et al. 2022 (2206.00364), Table 1; Esser et al. 2024 (2403.03206), Eq. 19.
    """
    return jnp.exp(mean + std * normal_like(keys, ()))


def uniform_sigma(keys: Key[Array, " B"], table: Float64[np.ndarray, " T"]) -> Float[Array, " B"]:
    """Samples training noise levels uniformly over the table's timesteps, one per key (Ho et al. 2020, Alg. 1)."""
    timestep = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(table)))(keys)
    return jnp.asarray(table, jnp.float32)[timestep]


def even_flow_sigma(keys: Key[Array, " B"]) -> Float[Array, " B"]:
    """Samples a flow's s evenly over 1e-4 to 1 - 1e-4, as sigma = s / (1 - s), one per key.

    Nearer the ends float32 loses the image beside the noise, or the noise beside the image.
    """
    s = jax.vmap(lambda key: jax.random.uniform(key, minval=1e-4, maxval=1 - 1e-4))(keys)
    return s / (1 - s)


def normal_like(keys: Key[Array, " B"], shape: tuple[int, ...]) -> Float[Array, " B *shape"]:
    """Samples standard normal noise of one shape per key: row b is a function of keys[b] alone."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def _check_num_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"got num_steps={num_steps}; a solver takes at least 1 step")
