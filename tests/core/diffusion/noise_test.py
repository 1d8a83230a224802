"""Laws and goldens of core/diffusion/noise.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.diffusion import noise

TABLE = noise.sigmas_from_betas(noise.linear_betas())


def test_karras_sigmas_are_the_published_grid():
    # Karras et al. 2022, Eq. 5 at N = 18, evaluated with 40 decimal digits.
    golden = [
        80.0, 57.586, 40.7856, 28.3746, 19.3525, 12.9101, 8.4009, 5.3152, 3.2568,
        1.9233, 1.0882, 0.5853, 0.2964, 0.1395, 0.0599, 0.0229, 0.0075, 0.002, 0.0,
    ]  # fmt: skip
    np.testing.assert_allclose(noise.karras_sigmas(18), golden, atol=6e-5)  # half of the last printed digit


@pytest.mark.parametrize("num_steps", [1, 2, 7, 50])
def test_karras_sigmas_descend_from_max_to_zero(num_steps):
    sigmas = noise.karras_sigmas(num_steps)
    assert sigmas.shape == (num_steps + 1,) and sigmas.dtype == np.float32
    assert sigmas[0] == 80 and sigmas[-1] == 0 and np.all(np.diff(sigmas) < 0)


def test_ddpm_table_has_the_known_ends():
    # abar_T of the linear schedule is 4.036e-5 (Ho et al. 2020: KL to the prior of about 1e-5 bits per dimension).
    assert TABLE.dtype == np.float64 and np.all(np.diff(TABLE) > 0)
    np.testing.assert_allclose(TABLE[0], np.sqrt(1e-4 / (1 - 1e-4)), rtol=1e-12)
    np.testing.assert_allclose(1 / (1 + TABLE[-1] ** 2), 4.036e-5, rtol=1e-3)


def test_ddpm_sigmas_with_all_steps_are_the_table_reversed():
    np.testing.assert_array_equal(noise.ddpm_sigmas(1000, TABLE)[:-1], TABLE[::-1].astype(np.float32))


@pytest.mark.parametrize("num_steps", [1, 3, 10, 50, 333])
def test_ddpm_sigmas_start_at_full_noise_and_space_timesteps_evenly(num_steps):
    sigmas = noise.ddpm_sigmas(num_steps, TABLE)
    timesteps = np.searchsorted(TABLE.astype(np.float32), sigmas[:-1])
    assert timesteps[0] == 999 and sigmas[-1] == 0
    gaps = -np.diff(np.append(timesteps, -1))  # the step to 0 counts as the step to timestep -1
    assert gaps.sum() == 1000 and gaps.max() - gaps.min() <= 1


def test_lognormal_sigma_has_the_stated_law():
    draws = np.log(noise.lognormal_sigma(jax.random.split(jax.random.key(0), 20_000), mean=-1.2, std=1.2))
    # Four standard errors of a mean and of a standard deviation.
    assert abs(draws.mean() + 1.2) < 4 * 1.2 / np.sqrt(20_000)
    assert abs(draws.std() - 1.2) < 4 * 1.2 / np.sqrt(40_000)


def test_uniform_sigma_draws_every_level_of_the_table_equally():
    table = TABLE[:10]
    draws = np.asarray(noise.uniform_sigma(jax.random.split(jax.random.key(1), 10_000), table))
    levels, counts = np.unique(draws, return_counts=True)
    np.testing.assert_array_equal(levels, table.astype(np.float32))
    assert np.sum((counts - 1000) ** 2 / 1000) < 27.9  # chi-square with 9 degrees of freedom, p = 0.001


def test_normal_like_row_is_a_function_of_its_key_alone():
    keys = jax.random.split(jax.random.key(2), 6)
    whole = noise.normal_like(keys, (4, 4, 1))
    np.testing.assert_array_equal(whole[::-1], noise.normal_like(keys[::-1], (4, 4, 1)))
    np.testing.assert_array_equal(whole[2:3], noise.normal_like(keys[2:3], (4, 4, 1)))
    assert not jnp.any(whole[0] == whole[1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: noise.karras_sigmas(0),
        lambda: noise.karras_sigmas(5, sigma_min=2.0, sigma_max=1.0),
        lambda: noise.linear_betas(0),
        lambda: noise.linear_betas(10, 0.5, 0.1),
        lambda: noise.ddpm_sigmas(0, TABLE),
        lambda: noise.ddpm_sigmas(1001, TABLE),
    ],
)
def test_impossible_grids_are_refused(call):
    with pytest.raises(ValueError, match="got "):
        call()


def test_flow_sigmas_are_torchs_levels():
    """Of FlowMatchEulerDiscreteScheduler(shift=3).set_timesteps(4), which shifts the lowest s twice."""
    sigmas = noise.flow_sigmas(4, shift=3.0).astype(np.float64)
    golden = [1.0, 0.857692, 0.602151, 0.008929, 0.0]
    np.testing.assert_allclose(sigmas / (1 + sigmas), golden, atol=1e-6)  # the last printed digit
    assert sigmas[0] == noise.LAST


@pytest.mark.parametrize("num_steps", [1, 2, 28])
def test_shift_of_a_flow_is_a_factor_of_its_levels(num_steps):
    """But of the lowest, which is shifted already, and the first, which is infinite."""
    plain, shifted = (noise.flow_sigmas(num_steps, a, num_timesteps=10**9) for a in (1.0, 3.0))
    assert shifted.shape == (num_steps + 1,) and np.all(np.diff(shifted) < 0)
    np.testing.assert_allclose(shifted[1:-2], 3 * plain[1:-2], rtol=1e-5)


def test_shifted_logit_normal_time_is_a_lognormal_sigma():
    """Of s with logit(s) ~ N(mean, std^2), shifted to a s / (1 + (a - 1) s); by the same normal numbers."""
    keys = jax.random.split(jax.random.key(2), 100)
    z = noise.normal_like(keys, ())
    s = jax.nn.sigmoid(0.5 + 0.8 * z)
    s = 3 * s / (1 + 2 * s)
    sigma = noise.lognormal_sigma(keys, mean=float(np.log(3)) + 0.5, std=0.8)
    np.testing.assert_allclose(sigma / (1 + sigma), s, rtol=1e-5)
