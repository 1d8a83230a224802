"""Laws of core/diffusion/denoise.py."""

import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_data import gaussian_denoiser

from jaxmoust.core.diffusion import denoise, noise

SIGMAS = np.geomspace(0.002, 80.0, 9, dtype=np.float32)
TABLE = noise.sigmas_from_betas(noise.linear_betas())


def _pair(seed, num_images=64):
    """Unit-variance images and noise, [B, 16, 16, 1]: 16,384 numbers, so 4 % is over 3.6 standard errors."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.standard_normal((num_images, 16, 16, 1), np.float32)) for _ in range(2))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_edm_network_sees_unit_variance(sigma):
    seen = {}
    x0, eps = _pair(0)
    x0 = 0.5 * x0
    net = lambda x, c: seen.update(x=x, c=c) or x  # noqa: E731
    denoise.precondition_edm(net)(x0 + sigma * eps, jnp.full(64, sigma))
    assert abs(np.var(seen["x"]) - 1) < 0.04
    np.testing.assert_allclose(seen["c"], np.log(sigma) / 4, rtol=1e-6)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_edm_target_has_unit_variance_and_unit_weight(sigma):
    # The network's target is F = (x0 - c_skip x) / c_out; D is linear in F, so two constant networks reveal
    # c_skip x and c_out. At the ends x0 - c_skip x cancels: float32 leaves 1e-3 of it.
    x0, eps = _pair(1)
    x0 = 0.5 * x0
    x, sigmas = x0 + sigma * eps, jnp.full(64, sigma)
    skip = denoise.precondition_edm(lambda x, c: jnp.zeros_like(x))(x, sigmas)
    c_out = (denoise.precondition_edm(lambda x, c: jnp.ones_like(x))(x, sigmas) - skip).mean()
    assert abs(np.var((x0 - skip) / c_out) - 1) < 0.04
    np.testing.assert_allclose(denoise.edm_weight(sigmas)[0] * c_out**2, 1, rtol=2e-3)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_eps_and_v_networks_see_ddpm_input(sigma):
    x0, eps = _pair(2)
    for precondition in (denoise.precondition_eps, denoise.precondition_v):
        seen = {}
        precondition(lambda x, c: seen.update(x=x) or x, TABLE)(x0 + sigma * eps, jnp.full(64, sigma))  # noqa: B023
        assert abs(np.var(seen["x"]) - 1) < 0.04


def test_eps_timestep_inverts_the_table_and_interpolates_between():
    seen = []
    wrapped = denoise.precondition_eps(lambda x, c: seen.append(c) or x, TABLE)
    levels = np.array([0, 1, 500, 998, 999])
    halfway = np.sqrt(TABLE[500] * TABLE[501])
    sigma = jnp.asarray([*TABLE[levels], halfway, 1e-6, 1e6], jnp.float32)
    wrapped(jnp.zeros((8, 2, 2, 1)), sigma)
    # log sigma near T-1 differs by 1e-2 a timestep and float32 by 2e-7: 1e-4 of a timestep.
    np.testing.assert_allclose(seen[0], [*levels, 500.5, 0, 999], atol=1e-3)


@pytest.mark.parametrize("name", ["eps", "v"])
def test_perfect_network_recovers_x0(name):
    x0, eps = _pair(3, num_images=9)
    sigma = jnp.asarray(SIGMAS)
    sigma_px = sigma[:, None, None, None]
    alpha = 1 / jnp.sqrt(1 + sigma_px**2)
    target = eps if name == "eps" else alpha * eps - sigma_px * alpha * x0
    wrapped = getattr(denoise, f"precondition_{name}")(lambda x, c: target, TABLE)
    # x is up to 80 * 4 large, and float32 carries 7 digits of it.
    np.testing.assert_allclose(wrapped(x0 + sigma_px * eps, sigma), x0, atol=1e-4)


@pytest.mark.parametrize("name", ["eps", "v"])
def test_loss_with_its_weight_is_the_network_error(name):
    x0, eps = _pair(4, num_images=9)
    sigma = jnp.geomspace(0.05, 20.0, 9, dtype=jnp.float32)
    sigma_px = sigma[:, None, None, None]
    alpha = 1 / jnp.sqrt(1 + sigma_px**2)
    target = eps if name == "eps" else alpha * eps - sigma_px * alpha * x0
    net = lambda x, c: 0.3 * x + jnp.sin(x)  # noqa: E731
    wrapped = getattr(denoise, f"precondition_{name}")(net, TABLE)
    weight = getattr(denoise, f"{name}_weight")(sigma)
    loss = denoise.diffusion_loss(wrapped, x0, sigma, eps, weight)
    expected = jnp.mean((net(alpha * (x0 + sigma_px * eps), sigma) - target) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)  # x0 / sigma cancels to 1e-7 / 0.05 in float32


def test_flow_network_sees_the_straight_path_and_its_time():
    """x_t = (1 - s) x0 + s noise at s = sigma / (1 + sigma), up to the level that stands for s = 1."""
    x0, eps = _pair(6, num_images=3)
    sigma = jnp.array([0.01, 1.0, noise.LAST], jnp.float32)
    seen = {}
    x = x0 + sigma[:, None, None, None] * eps
    wrapped = denoise.precondition_flow(lambda x_t, t: seen.update(x_t=x_t, t=t) or eps - x0)
    found = wrapped(x, sigma)
    s = (sigma / (1 + sigma))[:, None, None, None]
    # At LAST float32's rounding of x, 1e-7 of it, is what is left of x0.
    np.testing.assert_allclose(seen["x_t"], (1 - s) * x0 + s * eps, atol=2e-6)
    np.testing.assert_allclose(seen["t"], [9.900990, 500.0, 1000.0], rtol=1e-6)
    np.testing.assert_allclose(found, x0, atol=3e-6)


def test_flow_loss_with_its_weight_is_the_error_of_the_velocity():
    x0, eps = _pair(7, num_images=9)
    sigma = jnp.geomspace(0.05, 20.0, 9, dtype=jnp.float32)
    s = (sigma / (1 + sigma))[:, None, None, None]
    net = lambda x_t, t: 0.3 * x_t + jnp.sin(x_t)  # noqa: E731
    weight = denoise.flow_weight(sigma)
    loss = denoise.diffusion_loss(denoise.precondition_flow(net), x0, sigma, eps, weight)
    expected = jnp.mean((net((1 - s) * x0 + s * eps, sigma) - (eps - x0)) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)  # as for eps and v


def test_gaussian_denoiser_is_the_posterior_mean():
    mean, std, sigma = 0.2, 0.7, 0.9
    x0, eps = _pair(5)
    x0 = mean + std * x0
    x = x0 + sigma * eps
    estimate = gaussian_denoiser(mean, std)(x, jnp.full(64, sigma))
    residual = x0 - estimate
    # The posterior mean is the estimate whose error is orthogonal to the observation; 4 standard errors.
    bound = 4 / np.sqrt(x.size)
    assert abs(np.corrcoef(np.ravel(residual), np.ravel(x))[0, 1]) < bound
    assert abs(residual.mean()) < bound
    np.testing.assert_allclose(residual.var(), std**2 * sigma**2 / (std**2 + sigma**2), rtol=0.05)


def test_gaussian_denoiser_minimises_the_diffusion_loss():
    x0, eps = _pair(6)
    sigma = jnp.full(64, 0.8)
    loss = lambda std: denoise.diffusion_loss(  # noqa: E731
        gaussian_denoiser(0.0, std), x0, sigma, eps, jnp.ones(64)
    ).mean()
    assert loss(1.0) < min(loss(0.8), loss(1.2))


def test_guidance_one_is_the_conditional_denoiser_itself():
    def uncond(x, sigma):
        raise AssertionError("evaluated for nothing")

    cond = gaussian_denoiser(0.0, 1.0)
    assert denoise.guide(cond, uncond, 1.0) is cond


@pytest.mark.parametrize("guidance", [0.0, 0.5, 2.0, 7.5])
def test_guidance_extrapolates_linearly(guidance):
    cond, uncond = lambda x, sigma: 3 * x, lambda x, sigma: x + 1
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    guided = denoise.guide(cond, uncond, guidance)(x, jnp.ones(1))
    np.testing.assert_allclose(guided, (1 - guidance) * (x + 1) + guidance * 3 * x, rtol=1e-6)


def test_clip_x0_limits_the_estimate_alone():
    clipped = denoise.clip_x0(lambda x, sigma: 2 * x)
    x = jnp.asarray([-3.0, -0.4, 0.0, 0.3]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(clipped(x, jnp.ones(1)).ravel(), [-1, -0.8, 0, 0.6])


@pytest.mark.parametrize(
    "call",
    [
        lambda: denoise.precondition_edm(lambda x, c: x, sigma_data=0.0),
        lambda: denoise.edm_weight(jnp.ones(1), sigma_data=-1.0),
        lambda: denoise.precondition_eps(lambda x, c: x, TABLE[::-1].copy()),
        lambda: denoise.precondition_v(lambda x, c: x, np.zeros(3)),
    ],
)
def test_impossible_scales_are_refused(call):
    with pytest.raises(ValueError):
        call()
