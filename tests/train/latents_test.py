"""Laws of train/latents.py: what is encoded once is what would be encoded now, and is kept by its content."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.diffusion.methods import EDM
from jaxmoust.data.loading.loader import eval_stream
from jaxmoust.data.source import from_arrays
from jaxmoust.models.dit import DiT
from jaxmoust.models.stable_diffusion.autoencoder import (
    Autoencoder,
    latent_scale,
    load_autoencoder,
    to_image_shape,
    to_vae_input,
)
from jaxmoust.models.stable_diffusion.layers import shapes_of
from jaxmoust.models.stable_diffusion.vae import VAE
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train import latents as module
from jaxmoust.train.diffuse import Diffuse
from jaxmoust.train.latents import Latents
from jaxmoust.train.loop import normalize

AUTOENCODER = Autoencoder(VAE(block_out_channels=(4, 4), norm_num_groups=2, latent_channels=3), 0.5, 0.25)
LATENTS = Latents(AUTOENCODER, 8, flip=True)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
SOURCE = from_arrays(IMAGES, np.arange(6) % 2, ["a", "b"], "real")


@functools.cache
def params():
    rng = np.random.default_rng(1)
    shapes = shapes_of(AUTOENCODER.vae, jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32))
    return jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape, np.float32), shapes)


@functools.cache
def rows():
    return LATENTS.encode(params(), eval_stream(SOURCE, 4, image_px=8, channels=1), Machine.local(1))


def test_rows_are_the_posteriors_of_each_image_and_of_its_mirror_image():
    assert LATENTS.shape == (4, 4, 3) and rows().shape == (6, 2, 4, 4, 6) == (6, *LATENTS.row.shape)
    seen = to_vae_input(normalize(IMAGES), 8)
    for side, image in enumerate((seen, seen[:, :, ::-1])):
        mean, std = AUTOENCODER.posterior(params(), image)
        expected = np.concatenate([mean, std], -1)
        np.testing.assert_allclose(rows()[:, side], expected, rtol=1e-3, atol=1e-3)  # float16 keeps 11 bits
    raw, _ = AUTOENCODER.vae.apply({"params": params()}, seen, method=VAE.encode)
    np.testing.assert_allclose(LATENTS.mean(rows()), (raw - 0.25) * 0.5, rtol=1e-3, atol=1e-3)


def test_draws_are_of_the_posterior_and_turn_as_training_flips():
    row = jnp.asarray(rows()[:1]).repeat(400, 0)
    keys = jax.random.split(jax.random.key(0), (2, 400))
    mean, std = np.split(np.asarray(rows()[0], np.float32), 2, -1)
    drawn = LATENTS.draw(row, Augment(flip=True), *keys)
    plain = Latents(AUTOENCODER, 8, flip=False).draw(row, Augment(), *keys)
    # 5 standard errors of each of 48 means.
    np.testing.assert_array_less(np.abs(plain.mean(0) - mean[0]), 5 * std[0] / 400**0.5)
    near = [np.square((drawn - mean[side]) / std[side]).mean((1, 2, 3)) for side in (0, 1)]
    assert 0.4 < np.mean(near[0] < near[1]) < 0.6  # 4 standard errors


def test_latents_are_kept_by_content(tmp_path, monkeypatch):
    stream = lambda: eval_stream(SOURCE, 4, image_px=8, channels=1)  # noqa: E731
    kept = functools.partial(LATENTS.kept, images=stream(), machine=Machine.local(1), folder=tmp_path / "kept")
    np.testing.assert_array_equal(kept(params(), of="one"), rows())
    assert len(list((tmp_path / "kept").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(module, "rows_of", None)  # nothing is encoded again
        np.testing.assert_array_equal(kept(params(), of="one"), rows())
    kept(params(), of="other images")
    kept(jax.tree.map(lambda x: 0.9 * x, params()), of="one")
    Latents(AUTOENCODER, 8, flip=False).kept(params(), stream(), Machine.local(1), tmp_path / "kept", "one")
    assert len(list((tmp_path / "kept").iterdir())) == 4


def test_kept_latents_save_time_and_are_never_relied_on(tmp_path, caplog):
    stream = eval_stream(SOURCE, 4, image_px=8, channels=1)
    kept = functools.partial(LATENTS.kept, params(), stream, Machine.local(1), of="one")
    kept(tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    for spoilt in (b"", whole[:-1], b"no array"):
        file.write_bytes(spoilt)
        np.testing.assert_array_equal(kept(tmp_path / "kept"), rows())
    (tmp_path / "a_file").touch()
    np.testing.assert_array_equal(kept(tmp_path / "a_file" / "below"), rows())
    assert "latents.keep" in caplog.text


def test_images_come_back_in_their_size_and_channels():
    image = np.full((2, 8, 8, 1), 0.25, np.float32)
    for shape in ((8, 8, 1), (5, 5, 1), (5, 5, 3)):
        np.testing.assert_allclose(
            to_image_shape(to_vae_input(image, 16), shape), np.full((2, *shape), 0.25), atol=1e-6
        )


def test_task_learns_latents_and_refuses_what_they_cannot_be():
    model = DiT(out_channels=3, num_classes=2, width=8, depth=1, num_heads=2)
    task = Diffuse(model, EDM(), 2, (8, 8, 1), Augment(flip=True), latents=LATENTS)
    variables = jax.jit(task.init)(jax.random.key(0))[0]
    batch = {"image": rows(), "label": np.arange(6) % 2, "index": np.arange(6)}
    keys = jax.random.split(jax.random.key(1), 6)
    loss, _ = jax.jit(lambda params, batch: task.loss(params, {}, None, batch, keys))(variables, batch)
    assert np.isfinite(loss) and task.x_shape == (4, 4, 3)
    with pytest.raises(ValueError, match=r"encoded once.*flip"):
        Diffuse(model, EDM(), 2, (8, 8, 1), Augment(rotate_deg=3.0), latents=LATENTS)
    with pytest.raises(ValueError, match=r"9 px.*multiples of 2"):
        _ = Latents(AUTOENCODER, 9, flip=False).shape


def test_vae_of_the_embedded_pipeline_is_read_alone(tmp_path):
    autoencoder, found = load_autoencoder("tiny_sd")
    assert autoencoder.latent_shape(32) == (8, 8, 4) and found.keys() >= {"encoder", "decoder"}
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ValueError, match=r"no VAE.*UNet2DModel"):
        load_autoencoder(str(tmp_path))
    with pytest.raises(ValueError, match="scaling_factor is 'x'"):
        latent_scale({"scaling_factor": "x"})
