"""Laws of train/autoencode.py: what is counted as error, what is learnt, and that latents end with unit variance."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stable_diffusion as tiny

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.diffusion import noise
from jaxmoust.core.optim import Recipe
from jaxmoust.data.loading.loader import eval_stream
from jaxmoust.data.source import from_arrays
from jaxmoust.models.stable_diffusion import load, save
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train.autoencode import Autoencode, kl_divergence, reconstruction_error, to_vae_input
from jaxmoust.train.loop import init_state, make_step

SHAPE = (8, 8, 1)
RECIPE = Recipe(batch_size=8, num_steps=100, name="adam", learning_rate=2e-3, ema_half_life_images=20.0)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return tiny.make_pipeline(tmp_path_factory.mktemp("tokenizer"), 1, shallow=True)


@pytest.fixture(scope="module")
def task(loaded):
    return Autoencode(loaded.pipeline, SHAPE, 16, kl_weight=1e-3)


def make_batch(num=8):
    """Squares of any grey on a ground of any grey."""
    rng = np.random.default_rng(0)
    image = np.broadcast_to(rng.integers(0, 256, (num, 1, 1, 1)), (num, *SHAPE)).astype(np.uint8)
    image[:, 2:6, 2:6] = rng.integers(0, 256, (num, 1, 1, 1))
    order = np.arange(num)
    return {
        "image": image,
        "label": np.zeros(num, np.int32),
        "source": np.zeros(num, np.int32),
        "index": order.astype(np.int32),
        "slot": order.astype(np.uint32),
    }


def train(task, params, num_steps, num_devices):
    """Trains on one batch again and again; returns the state and the losses."""
    machine = Machine.local(num_devices)
    step = make_step(task, RECIPE, machine)
    state = machine.replicate(task.start(params)(init_state(task, RECIPE, 0)))
    frozen = machine.replicate(task.frozen(params, ()))
    seed, losses = machine.replicate(np.uint32(0)), []
    for _ in range(num_steps):
        state, metrics = step(state, frozen, seed, machine.split(make_batch()))
        losses.append(float(metrics["loss"]))
    return jax.device_get(state), losses


@pytest.fixture(scope="module")
def trained(task, loaded):
    return train(task, loaded.params, 40, 1)


def judge(task, state, batch_size=8):
    batch, machine = make_batch(), Machine.local(1)
    source = from_arrays(batch["image"], batch["label"], ["a"])
    data = {"train": eval_stream(source, batch_size, image_px=SHAPE[0], channels=1)}
    return task.evaluate(machine.replicate(state), {}, data, machine).metrics


def test_vae_learns_to_give_images_back(task, loaded, trained):
    state, losses = trained
    assert set(state.params) == {"vae"}
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    fresh = task.start(loaded.params)(init_state(task, RECIPE, 0))
    assert judge(task, state)["loss_train"] < 0.7 * judge(task, fresh)["loss_train"]


def test_four_devices_learn_what_one_does(task, loaded, trained):
    _, four = train(task, loaded.params, 4, 4)
    np.testing.assert_allclose(four, trained[1][:4], rtol=2e-4)  # float32, whose sums are taken in another order


def test_loss_is_the_error_of_one_draw_and_the_divergence_of_plain_latents(task, loaded):
    """Recomputed by hand from the same keys, the latents' scaling factor taken out."""
    batch, keys, pipeline = make_batch(3), jax.random.split(jax.random.key(5), 3), loaded.pipeline
    loss, (metrics, _) = jax.jit(task.loss)({"vae": loaded.params["vae"]}, {}, {}, batch, keys)
    image = to_vae_input(batch["image"].astype(np.float32) / 127.5 - 1, 16)
    k_latent = jax.vmap(jax.random.split, out_axes=1)(keys)[1]
    vae = {"params": loaded.params["vae"]}
    mean, std = pipeline.vae.apply(vae, image, method=type(pipeline.vae).encode)
    latent = mean + std * noise.normal_like(k_latent, (8, 8, 4))
    drawn = pipeline.vae.apply(vae, latent, method=type(pipeline.vae).decode)
    error = np.abs(drawn - image).mean() + ((drawn - image) ** 2).mean()
    kl = 0.5 * np.mean(mean**2 + std**2 - 1 - np.log(std**2))
    assert float(metrics["error"]) == pytest.approx(float(error), rel=1e-5)
    assert float(metrics["kl"]) == pytest.approx(float(kl), rel=1e-5)
    assert float(loss) == pytest.approx(float(error + 1e-3 * kl), rel=1e-5)


def test_divergence_is_that_of_normal_distributions():
    """Against an integral over a fine grid; zero only for the standard normal distribution itself."""
    x = np.linspace(-12, 12, 20001)
    for mean, std in ((0.0, 1.0), (1.5, 0.5), (-1.0, 2.0)):
        log_p = -0.5 * ((x - mean) / std) ** 2 - np.log(std)
        p = np.exp(log_p) / np.sqrt(2 * np.pi)
        integral = np.trapezoid(p * (log_p + 0.5 * x**2), x)
        found = kl_divergence(jnp.full((1, 2, 2, 4), mean), jnp.full((1, 2, 2, 4), std))
        assert float(found[0]) == pytest.approx(integral, abs=1e-5)


def test_error_is_a_mean_over_elements_of_each_image():
    zero = jnp.zeros((2, 4, 4, 3))
    np.testing.assert_allclose(reconstruction_error(zero.at[1].set(0.5), zero), [0.0, 0.75])


def test_evaluation_is_the_same_at_any_batch_size(task, trained):
    whole, parts = judge(task, trained[0]), judge(task, trained[0], batch_size=3)
    assert whole.keys() == parts.keys() == {"loss_train", "latent_std"}
    for name in whole:
        assert whole[name] == pytest.approx(parts[name], rel=1e-5)


def test_tuned_pipeline_has_latents_of_unit_deviation_and_is_saved_so(task, loaded, trained, tmp_path):
    state, _ = trained
    tuned = task.fine_tuned(loaded, state.ema["params"], judge(task, state))
    save(tuned, tmp_path / "pipeline")
    again = load(str(tmp_path / "pipeline"))
    image = to_vae_input(make_batch()["image"].astype(np.float32) / 127.5 - 1, 16)
    latent = again.pipeline.encode_image(again.params, image)
    assert float(jnp.std(latent)) == pytest.approx(1.0, rel=1e-4)
    assert tuned.params["unet"] is loaded.params["unet"]
    assert loaded.pipeline.configs["vae"]["scaling_factor"] == tiny.VAE["scaling_factor"]


def test_training_twice_measures_latents_without_the_first_scaling(task, loaded, trained):
    state, _ = trained
    metrics = judge(task, state)
    tuned = task.fine_tuned(loaded, state.params, metrics)
    assert judge(replace(task, pipeline=tuned.pipeline), state) == pytest.approx(metrics, rel=1e-4)


def test_impossible_settings_are_refused(loaded):
    for settings, said in (
        ({"kl_weight": -1.0}, "kl_weight -1.0"),
        ({"augment": Augment(mixup=0.2)}, "blend classes"),
        ({"image_px": 17}, "multiples of 2"),
    ):
        with pytest.raises(ValueError, match=said):
            Autoencode(loaded.pipeline, SHAPE, **({"image_px": 16} | settings))
