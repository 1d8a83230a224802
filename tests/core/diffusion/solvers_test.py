"""Laws of core/diffusion/solvers.py: orders of convergence, exact equivalences, keyed noise."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_data import gaussian_denoiser

from jaxmoust.core.diffusion import denoise, noise, solvers

TABLE = noise.sigmas_from_betas(noise.linear_betas())


def _keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


def _ode_error(solver, num_steps):
    """Error of a solver from sigma 10 to 0.1 on the Gaussian denoiser, whose ODE has a closed solution."""
    mean, std, start, end = 0.3, 0.5, 10.0, 0.1
    sigmas = noise.karras_sigmas(num_steps + 1, sigma_min=end, sigma_max=start)[:-1].astype(np.float64)
    x = jnp.linspace(-20.0, 20.0, 16).reshape(1, 4, 4, 1)
    exact = mean + (x - mean) * np.sqrt((std**2 + sigmas[-1] ** 2) / (std**2 + sigmas[0] ** 2))
    return float(jnp.abs(solver(gaussian_denoiser(mean, std), x, sigmas) - exact).max())


@pytest.mark.parametrize(("solver", "order"), [(solvers.euler, 1), (solvers.heun, 2), (solvers.dpmpp_2m, 2)])
def test_ode_solver_converges_with_its_order(solver, order):
    with jax.enable_x64(True):
        coarse, fine = _ode_error(solver, 64), _ode_error(solver, 128)
    # Halving the step divides the error by 2^order, up to the next order's term: a few percent at 64 steps.
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.12)


def _flow_error(solver, num_steps):
    """Error of a solver on a flow's levels, from the first, which stands for infinity, to a clean image."""
    mean, std = 0.3, 0.7
    start = jnp.linspace(-3.0, 3.0, 16, dtype=jnp.float32).reshape(1, 4, 4, 1)
    sigmas = noise.flow_sigmas(num_steps, shift=3.0)
    found = solver(gaussian_denoiser(mean, std), sigmas[0] * start, sigmas)
    return float(jnp.sqrt(jnp.mean((found - (mean + std * start)) ** 2)))


@pytest.mark.parametrize("num_steps", [10, 28])
def test_solver_of_order_2_beats_euler_on_a_flow(num_steps):
    """Heun diverges unless its step from infinity is Euler's; DPM-Solver++ loses if it extrapolates by more."""
    euler, heun, dpmpp = (_flow_error(s, num_steps) for s in (solvers.euler, solvers.heun, solvers.dpmpp_2m))
    assert heun < euler / 3 and dpmpp < euler / 3  # without either, they are above it


def test_heun_takes_two_evaluations_a_step_except_for_the_last():
    calls = []

    def counting(x, sigma):
        jax.debug.callback(calls.append, sigma[0], ordered=True)
        return 0.5 * x

    jax.block_until_ready(solvers.heun(counting, jnp.ones((1, 2, 2, 1)), noise.karras_sigmas(18)))
    jax.effects_barrier()
    assert len(calls) == 35
    assert min(calls) > 0


def test_dpmpp_takes_one_evaluation_a_step_and_follows_an_answer_linear_in_log_sigma():
    """Which it extrapolates without error; Euler, at the same cost, is more than ten times farther off."""
    calls = []

    def linear(x, sigma):
        jax.debug.callback(calls.append, sigma[0], ordered=True)
        return jnp.broadcast_to(jnp.log(sigma)[:, None, None, None], x.shape)

    x = jnp.ones((1, 2, 2, 1))
    sigmas = noise.karras_sigmas(12)
    jax.block_until_ready(solvers.dpmpp_2m(linear, x, sigmas))
    jax.effects_barrier()
    assert len(calls) == 12 and min(calls) > 0

    def end(solver, num_steps):
        grid = np.concatenate([[80.0], np.geomspace(79.0, 1.0, num_steps)])  # a first step too short to matter
        return float(solver(linear, x, grid)[0, 0, 0, 0])

    # dx / dsigma = (x - log sigma) / sigma from (80, 1): x = (1 - log 80 - 1) sigma / 80 + log sigma + 1.
    exact = -np.log(80.0) / 80 + 1
    assert abs(end(solvers.dpmpp_2m, 40) - exact) < 0.1 * abs(end(solvers.euler, 40) - exact)


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_last_step_to_zero_returns_the_denoised_image(name):
    # With one step all solvers are x -> denoise(x, sigma_max).
    x = jnp.linspace(-2.0, 2.0, 8).reshape(2, 2, 2, 1)
    out = solvers.SOLVERS[name](lambda x, sigma: jnp.tanh(x), x, noise.karras_sigmas(1), _keys(2))
    np.testing.assert_allclose(out, jnp.tanh(x), atol=1e-5)  # heun reaches it as x - sigma * slope, sigma = 80


@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_solver_is_exact_on_a_point_mass(name):
    out = solvers.SOLVERS[name](
        gaussian_denoiser(0.25, 0.0), 80 * jnp.ones((2, 2, 2, 1)), noise.karras_sigmas(6), _keys(2)
    )
    np.testing.assert_allclose(out, 0.25, atol=1e-4)  # heun's sums carry the rounding of 80


def _variance_by_recursion(sigmas, std):
    """Variance of ancestral sampling on N(0, std^2): each step is linear, so its variance has a closed form."""
    variance = sigmas[0] ** 2
    for sigma, sigma_next in pairwise(sigmas):
        shrink = std**2 / (std**2 + sigma**2)
        ratio = (sigma_next / sigma) ** 2
        variance = (shrink + ratio * (1 - shrink)) ** 2 * variance + sigma_next**2 * (1 - ratio)
    return variance


@pytest.mark.parametrize("num_steps", [8, 60])
def test_ancestral_has_the_exact_gaussian_variance(num_steps):
    std = 0.5
    sigmas = noise.karras_sigmas(num_steps)
    x = sigmas[0] * noise.normal_like(_keys(16, seed=1), (64, 64, 1))
    out = jax.jit(partial(solvers.ancestral, gaussian_denoiser(0.0, std)))(x, sigmas, _keys(16, seed=2))
    # The variance of 65,536 draws has a relative standard error of sqrt(2 / 65536) = 0.55 %; four of them.
    assert np.var(out) == pytest.approx(_variance_by_recursion(sigmas.astype(np.float64), std), rel=0.022)
    # ... which tends to the data's own as 1 / num_steps.
    many = noise.karras_sigmas(4000).astype(np.float64)
    assert _variance_by_recursion(many, std) == pytest.approx(std**2, rel=0.005)


def _eps_net(x, timestep):
    """Any smooth network will do for an identity between solvers."""
    return jnp.tanh(x) * (0.5 + timestep[:, None, None, None] / 2000)


def test_euler_is_ddim_in_alpha_coordinates():
    with jax.enable_x64(True):
        timesteps = np.arange(999, 0, -111)
        sigmas = np.append(TABLE[timesteps], 0.0)
        x = sigmas[0] * jnp.linspace(-1.0, 1.0, 12).reshape(1, 2, 6, 1)
        out = solvers.euler(denoise.precondition_eps(_eps_net, TABLE), x, sigmas)
        # Song et al. 2021, Eq. 12 with eta = 0, on x_t = sqrt(abar) (x0 + sigma eps).
        abar = 1 / (1 + sigmas**2)
        x_t = np.sqrt(abar[0]) * x
        for i, t in enumerate(timesteps):
            eps = _eps_net(x_t, jnp.full(1, float(t)))
            x0 = (x_t - np.sqrt(1 - abar[i]) * eps) / np.sqrt(abar[i])
            x_t = np.sqrt(abar[i + 1]) * x0 + np.sqrt(1 - abar[i + 1]) * eps
        # sigma 157 inverts to its timestep up to 1e-11; everything else is rounding in double precision.
        np.testing.assert_allclose(out, x_t, rtol=0, atol=1e-11)


def test_ancestral_is_the_ddpm_posterior_step():
    with jax.enable_x64(True):
        betas = noise.linear_betas()
        abar = np.cumprod(1 - betas)
        t, keys = 600, _keys(2, seed=3)
        x_t = jnp.linspace(-1.5, 1.5, 16).reshape(2, 2, 4, 1)
        x0 = 0.4 * x_t - 0.1
        # Ho et al. 2020, Eqs. 6-7.
        variance = (1 - abar[t - 1]) / (1 - abar[t]) * betas[t]
        mean = (
            np.sqrt(abar[t - 1]) * betas[t] / (1 - abar[t]) * x0
            + np.sqrt(1 - betas[t]) * (1 - abar[t - 1]) / (1 - abar[t]) * x_t
        )
        z = noise.normal_like(jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys), (2, 4, 1))
        expected = mean + np.sqrt(variance) * z
        out = solvers.ancestral(lambda x, sigma: x0, x_t / np.sqrt(abar[t]), TABLE[[t, t - 1]], keys)
        np.testing.assert_allclose(np.sqrt(abar[t - 1]) * out, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", [*solvers.SOLVERS, "churned heun"])
def test_image_does_not_depend_on_its_place_in_the_batch(name):
    tried = solvers.SOLVERS | {"churned heun": partial(solvers.heun, s_churn=40.0)}
    order = np.array([3, 0, 5, 1, 4, 2])
    keys, sigmas = _keys(6, seed=4), noise.karras_sigmas(5)
    x = 80 * noise.normal_like(_keys(6, seed=5), (4, 4, 2))
    run = jax.jit(lambda x, keys: tried[name](lambda x, sigma: jnp.tanh(x / 3), x, sigmas, keys))
    np.testing.assert_array_equal(run(x, keys)[order], run(x[order], keys[order]))


def test_ancestral_noise_differs_between_steps_and_images():
    # A denoiser of 0 leaves the added noise alone: runs of 1 and 2 noisy steps differ by independent draws.
    zero = lambda x, sigma: jnp.zeros_like(x)  # noqa: E731
    x = jnp.zeros((2, 16, 16, 1))
    one = solvers.ancestral(zero, x, np.asarray([2.0, 1.0], np.float32), _keys(2))
    two = solvers.ancestral(zero, x, np.asarray([2.0, 1.0, 0.5], np.float32), _keys(2))
    fresh = two - 0.25 * one
    for a, b in [(one[0], one[1]), (one[0], fresh[0])]:
        assert abs(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]) < 4 / 16  # 4 standard errors of 256 draws


def test_churn_keeps_the_marginal_variance():
    # Adding noise and integrating it away again leaves N(0, std^2) alone, up to Heun's error.
    keys = _keys(16, seed=6)
    x = 80 * noise.normal_like(_keys(16, seed=7), (32, 32, 1))
    churned = partial(solvers.heun, gaussian_denoiser(0.0, 0.5), s_churn=20.0)
    out = jax.jit(churned)(x, noise.karras_sigmas(60), keys)
    assert np.var(out) == pytest.approx(0.25, rel=0.06)  # 1.1 % standard error of 16,384 draws, and the grid's


def test_impossible_requests_are_refused():
    x, sigmas = jnp.ones((1, 2, 2, 1)), noise.karras_sigmas(4)
    with pytest.raises(ValueError, match="s_churn"):
        solvers.heun(lambda x, sigma: x, x, sigmas, s_churn=10.0)
    with pytest.raises(ValueError, match="at least 2"):
        solvers.euler(lambda x, sigma: x, x, sigmas[:1])
