"""The ways to train a diffusion model: the noise it sees, the weight of its errors, the noise levels it samples on.

A method is a frozen dataclass of numbers with four questions to ask it: `denoiser`, `sample_sigma`, `weight`,
`sigmas`. Everything else (the network, the loss, the solvers) is shared, because both speak `denoise(x, sigma) -> x0`.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmoust.core.diffusion import denoise, noise


@runtime_checkable
class Method(Protocol):
    """What `train/diffuse.py` and `generate/` ask of a method."""

    def __hash__(self) -> int:
        """Methods key the caches of compiled programs."""

    def denoiser(self, net: Callable) -> denoise.Denoiser:
        """Wraps a raw network `net(x, c)` into `denoise(x, sigma) -> x0`."""

    def sample_sigma(self, keys: Key[Array, " B"]) -> Float[Array, " B"]:
        """Samples the noise level that each example of a training batch sees."""

    def weight(self, sigma: Float[Array, " B"]) -> Float[Array, " B"]:
        """The loss weight of |denoise(x, sigma) - x0|^2 at each noise level."""

    def sigmas(self, num_steps: int) -> np.ndarray:
        """The descending noise levels [N + 1] of sampling, ending with 0."""


@dataclass(frozen=True)
class EDM:
    """Karras et al. 2022 (2206.00364), Table 1, column "Ours".

    Args:
        sigma_data: standard deviation of the images, in units of the [-1, 1] range.
        log_mean: mean of ln sigma of the training noise; ln sigma is normally distributed.
        log_std: standard deviation of ln sigma of the training noise.
        sigma_min: the lowest noise level of sampling, before 0 (Eq. 5).
        sigma_max: the noise level that sampling starts from (Eq. 5).
        rho: how much the noise levels of sampling crowd at the low end (Eq. 5); 1 spaces them evenly.
    """

    sigma_data: float = 0.5
    log_mean: float = -1.2
    log_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        """Refuses numbers that are no noise, before any work starts."""
        if not (self.sigma_data > 0 and self.log_std > 0 and 0 < self.sigma_min < self.sigma_max and self.rho > 0):
            raise ValueError(
                f"{self}: expected sigma_data, log_std and rho above 0, and 0 < sigma_min < sigma_max. "
                "Set them in config.method. The defaults are the paper's."
            )

    def denoiser(self, net: Callable) -> denoise.Denoiser:
        """Eq. 7: c_skip x + c_out net(c_in x, ln(sigma) / 4)."""
        return denoise.precondition_edm(net, self.sigma_data)

    def sample_sigma(self, keys: Key[Array, " B"]) -> Float[Array, " B"]:
        """Draws sigma from the log-normal of Table 1."""
        return noise.lognormal_sigma(keys, self.log_mean, self.log_std)

    def weight(self, sigma: Float[Array, " B"]) -> Float[Array, " B"]:
        """(sigma^2 + sigma_data^2) / (sigma sigma_data)^2, so that the network's own error has weight 1."""
        return denoise.edm_weight(sigma, self.sigma_data)

    def sigmas(self, num_steps: int) -> np.ndarray:
        """The rho-spaced levels of Eq. 5."""
        return noise.karras_sigmas(num_steps, self.sigma_min, self.sigma_max, self.rho)


@dataclass(frozen=True)
class DDPM:
    """Ho et al. 2020 (2006.11239) in sigma coordinates: x / sqrt(1 + sigma^2) is their x_t.

    Args:
        num_timesteps: T, the timesteps of the linear noise schedule.
        beta_start: variance of the noise schedule at the first timestep.
        beta_end: variance of the noise schedule at the last timestep.
        prediction: what the network predicts: "eps" (theirs) or "v" (Salimans & Ho 2022, 2202.00512).
    """

    num_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction: str = "eps"

    def __post_init__(self) -> None:
        """Refuses an unknown prediction and an impossible schedule, before any work starts."""
        if self.prediction not in ("eps", "v"):
            raise ValueError(f"method.prediction {self.prediction!r}: expected 'eps' or 'v'.")
        if not (self.num_timesteps > 1 and 0 < self.beta_start <= self.beta_end < 1):
            raise ValueError(
                f"{self}: expected num_timesteps from 2 and 0 < beta_start <= beta_end < 1. "
                "Set them in config.method. The defaults are the paper's."
            )

    @functools.cached_property
    def table(self) -> np.ndarray:
        """The noise level of each timestep, float64 [T], ascending."""
        return noise.sigmas_from_betas(noise.linear_betas(self.num_timesteps, self.beta_start, self.beta_end))

    def denoiser(self, net: Callable) -> denoise.Denoiser:
        """X - sigma eps, or its v form; the network's second argument is the (fractional) timestep."""
        wrap = denoise.precondition_eps if self.prediction == "eps" else denoise.precondition_v
        return wrap(net, self.table)

    def sample_sigma(self, keys: Key[Array, " B"]) -> Float[Array, " B"]:
        """Samples a timestep uniformly and returns its noise level."""
        return noise.uniform_sigma(keys, self.table)

    def weight(self, sigma: Float[Array, " B"]) -> Float[Array, " B"]:
        """The weight that makes the loss |eps - eps_hat|^2 (their L_simple), or |v - v_hat|^2."""
        return denoise.eps_weight(sigma) if self.prediction == "eps" else denoise.v_weight(sigma)

    def sigmas(self, num_steps: int) -> np.ndarray:
        """Timesteps evenly respaced from T - 1 down, then 0."""
        return noise.ddpm_sigmas(num_steps, self.table)


@dataclass(frozen=True)
class Flow:
    """Rectified flow (Liu et al. 2022, 2209.03003), as SiT is trained (Ma et al. 2024, 2401.08740): linear paths.

    Args:
        log_std: standard deviation of ln sigma of the training noise, so that s = sigma / (1 + sigma) is logit-normal
            (Esser et al. 2024, 2403.03206, Eq. 19: 1.0); 0 draws s evenly, as SiT does.
        shift: what the noise levels of training and sampling are multiplied with: above 1 for large images (Eq. 23).
        num_timesteps: the network's time input is s times this.
    """

    log_std: float = 0.0
    shift: float = 1.0
    num_timesteps: int = 1000

    def __post_init__(self) -> None:
        """Refuses numbers that are no noise, before any work starts."""
        if not (self.log_std >= 0 and self.shift > 0 and self.num_timesteps > 1):
            raise ValueError(f"{self}: expected log_std from 0, shift above 0, and num_timesteps from 2.")

    def denoiser(self, net: Callable) -> denoise.Denoiser:
        """x_t - s v, of x_t = (1 - s) x0 + s noise."""
        return denoise.precondition_flow(net, self.num_timesteps)

    def sample_sigma(self, keys: Key[Array, " B"]) -> Float[Array, " B"]:
        """Draws s, and of it sigma = s / (1 - s)."""
        if self.log_std:
            return noise.lognormal_sigma(keys, math.log(self.shift), self.log_std)
        return self.shift * noise.even_flow_sigma(keys)

    def weight(self, sigma: Float[Array, " B"]) -> Float[Array, " B"]:
        """The weight that makes the loss |v - v_hat|^2."""
        return denoise.flow_weight(sigma)

    def sigmas(self, num_steps: int) -> np.ndarray:
        """Even steps of s, shifted, then 0."""
        return noise.flow_sigmas(num_steps, self.shift, self.num_timesteps)


METHODS = {"edm": EDM, "ddpm": DDPM, "flow": Flow}


def class_denoiser(
    method: Method,
    apply: Callable,
    params: Any,
    label: Int[Array, " B"],
    keys: Key[Array, " B"] | None = None,
    train: bool = False,
    augment_label: Float[Array, "B A"] | None = None,
) -> denoise.Denoiser:
    """Binds a class-conditional network to its parameters and classes: the contract `denoise(x, sigma) -> x0`.

    Args:
        method: how the network's output becomes an estimate of x0.
        apply: `apply(variables, x, c, label, keys=, train=)`, a Flax module's.
        label: the class of each image; K stands for "no class". keys: for dropout, one for each example.
        augment_label: how each image was augmented, handed to the network by this name; None: not at all, and the
            network is not asked for the argument.
    """
    labels = {} if augment_label is None else {"augment_label": augment_label}
    return method.denoiser(lambda x, c: apply({"params": params}, x, c, label, keys=keys, train=train, **labels))
