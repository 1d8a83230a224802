"""Laws of core/diffusion/methods.py: what a method draws, charges and walks belongs together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.diffusion import denoise, methods
from jaxmoust.core.diffusion.methods import DDPM, EDM, METHODS, Flow, class_denoiser

# All of them, as constructed by a configuration: the network predicts eps, v, or EDM's own target.
ALL = [EDM(), DDPM(), DDPM(prediction="v"), Flow(), Flow(shift=3.0)]


def _keys(num):
    return jax.random.split(jax.random.key(0), num)


@pytest.mark.parametrize("how", ALL, ids=repr)
@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_grid_descends_to_zero(how, num_steps):
    grid = how.sigmas(num_steps)
    assert grid.shape == (num_steps + 1,) and grid.dtype == np.float32
    assert grid[-1] == 0
    assert np.all(np.diff(grid) < 0)


def test_grid_begins_at_the_noise_that_training_ends_with():
    assert EDM().sigmas(5)[0] == pytest.approx(80.0)
    table = DDPM().table
    assert DDPM().sigmas(5)[0] == pytest.approx(table[-1])
    np.testing.assert_allclose(DDPM().sigmas(1000)[:-1], table[::-1], rtol=1e-6)  # float32 of a float64 table


@pytest.mark.parametrize("how", ALL[1:3], ids=repr)
def test_ddpm_draws_every_level_of_its_table_and_no_other(how):
    how = DDPM(num_timesteps=10, prediction=how.prediction)
    drawn = np.asarray(how.sample_sigma(_keys(500)))
    # Each of 10 levels is missed by 500 draws with probability 0.9^500 = 1e-23.
    np.testing.assert_array_equal(np.unique(drawn), how.table.astype(np.float32))


def test_edm_draws_the_log_normal_it_names():
    how = EDM(log_mean=-0.4, log_std=0.5)
    log = np.log(how.sample_sigma(_keys(4000)))
    # 4 standard errors: 0.5 / sqrt(4000) of the mean, 0.5 / sqrt(8000) of the deviation.
    assert log.mean() == pytest.approx(-0.4, abs=4 * 0.5 / 4000**0.5)
    assert log.std() == pytest.approx(0.5, abs=4 * 0.5 / 8000**0.5)


def _loss(how, net, x0, sigma, eps):
    return denoise.diffusion_loss(how.denoiser(net), x0, sigma, eps, how.weight(sigma))


@pytest.fixture
def example():
    k_image, k_eps, k_net = jax.random.split(jax.random.key(1), 3)
    x0 = jax.random.uniform(k_image, (4, 3, 3, 2), minval=-1.0, maxval=1.0)
    eps = jax.random.normal(k_eps, x0.shape)
    answer = jax.random.normal(k_net, x0.shape)
    sigma = jnp.asarray(DDPM().table[[0, 10, 500, 999]], jnp.float32)
    return x0, sigma, eps, answer


def _wide(sigma):
    return np.asarray(sigma, np.float64)[:, None, None, None]


def _per_example(a):
    return np.mean(np.square(a), axis=(1, 2, 3))


# The error is formed in x = x0 + sigma * noise, whose last digit is 6e-8 * max(|x0|, sigma |noise|); dividing by
# sigma = 0.01 leaves 6e-6 on a noise of order 1. 1e-4 is ten times that.
_CANCELLATION = 1e-4


def test_eps_weight_makes_the_loss_the_error_of_the_noise(example):
    x0, sigma, eps, answer = example
    loss = _loss(DDPM(), lambda x, c: answer, x0, sigma, eps)
    np.testing.assert_allclose(loss, _per_example(eps - answer), rtol=_CANCELLATION)


def test_v_weight_makes_the_loss_the_error_of_v(example):
    x0, sigma, eps, answer = example
    alpha = 1 / np.sqrt(1 + _wide(sigma) ** 2)
    v = alpha * np.asarray(eps) - np.sqrt(1 - alpha**2) * np.asarray(x0)
    loss = _loss(DDPM(prediction="v"), lambda x, c: answer, x0, sigma, eps)
    np.testing.assert_allclose(loss, _per_example(v - np.asarray(answer)), rtol=_CANCELLATION)


def test_edm_weight_makes_the_loss_the_error_of_the_network(example):
    x0, sigma, eps, answer = example
    how = EDM(sigma_data=0.4)
    wide = _wide(sigma)
    skip = 0.4**2 / (wide**2 + 0.4**2)
    out = wide * 0.4 / np.sqrt(wide**2 + 0.4**2)
    target = (np.asarray(x0) - skip * (np.asarray(x0) + wide * np.asarray(eps))) / out  # Eq. 8
    np.testing.assert_allclose(
        _loss(how, lambda x, c: answer, x0, sigma, eps), _per_example(target - np.asarray(answer)), rtol=_CANCELLATION
    )


def test_flow_weight_makes_the_loss_the_error_of_the_velocity(example):
    x0, _, eps, answer = example
    sigma = jnp.array([1e-2, 0.5, 2.0, 1e3])
    loss = _loss(Flow(), lambda x, c: answer, x0, sigma, eps)
    np.testing.assert_allclose(loss, _per_example(np.asarray(eps - x0 - answer)), rtol=5 * _CANCELLATION)


def test_flow_draws_times_evenly_or_by_the_logit_normal():
    """4 standard errors: of an even number's mean, of a normal one's mean and deviation."""
    s = np.asarray(Flow().sample_sigma(_keys(4000)))
    s = s / (1 + s)
    assert 0 < s.min() < 0.01 and 0.99 < s.max() < 1
    assert s.mean() == pytest.approx(0.5, abs=4 * 12**-0.5 / 4000**0.5)
    log = np.log(Flow(log_std=1.0, shift=3.0).sample_sigma(_keys(4000)))
    assert log.mean() == pytest.approx(np.log(3.0), abs=4 / 4000**0.5)
    assert log.std() == pytest.approx(1.0, abs=4 / 8000**0.5)


@pytest.mark.parametrize("numbers", [{"log_std": -1.0}, {"shift": 0.0}, {"num_timesteps": 1}])
def test_flow_refuses_numbers_that_are_no_noise(numbers):
    with pytest.raises(ValueError, match=r"Flow\(.*expected"):
        Flow(**numbers)


def test_ddpm_asks_its_network_at_the_timestep_of_the_noise():
    how, asked = DDPM(), []
    timesteps = np.array([0, 1, 500, 999])
    sigma = jnp.asarray(how.table[timesteps], jnp.float32)
    how.denoiser(lambda x, c: asked.append(c) or x)(jnp.zeros((4, 1, 1, 1)), sigma)
    # float32 log sigma is good to 4e-7, a timestep is 1e-3 or more of log sigma.
    np.testing.assert_allclose(asked[0], timesteps, atol=1e-2)


def test_class_denoiser_hands_over_parameters_classes_and_keys():
    got = {}

    def apply(variables, x, c, label, keys, train):
        got.update(variables=variables, label=label, keys=keys, train=train)
        return jnp.zeros_like(x)

    label, keys = jnp.array([2, 0]), _keys(2)
    x = jnp.ones((2, 1, 1, 1))
    x0 = class_denoiser(DDPM(), apply, {"w": 1}, label, keys, train=True)(x, jnp.array([0.5, 2.0]))
    assert got["variables"] == {"params": {"w": 1}} and got["train"] is True
    assert got["label"] is label and got["keys"] is keys
    np.testing.assert_array_equal(x0, x)  # eps = 0: x is x0


def test_ddpm_refuses_an_unknown_prediction():
    with pytest.raises(ValueError, match=r"'x0'.*'eps' or 'v'"):
        DDPM(prediction="x0")


@pytest.mark.parametrize("numbers", [{"num_timesteps": 1}, {"beta_start": 0.0}, {"beta_start": 0.1}, {"beta_end": 1.0}])
def test_ddpm_refuses_an_impossible_schedule(numbers):
    with pytest.raises(ValueError, match=r"DDPM\(.*expected"):
        DDPM(**numbers)


@pytest.mark.parametrize(
    "numbers", [{"sigma_data": 0.0}, {"log_std": -1.2}, {"sigma_min": 0.0}, {"sigma_max": 1e-3}, {"rho": 0.0}]
)
def test_edm_refuses_numbers_that_are_no_noise(numbers):
    with pytest.raises(ValueError, match=r"EDM\(.*expected"):
        EDM(**numbers)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_of_equal_numbers_are_equal(name):
    """A method is part of the key under which compiled programs are kept."""
    make = METHODS[name]
    one, two = make(), make()
    one.sigmas(3)  # whatever is computed on the way is no part of what it is
    assert one == two and hash(one) == hash(two) and repr(one) == repr(two)
    assert methods.METHODS[name] is make
