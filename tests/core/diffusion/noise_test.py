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
