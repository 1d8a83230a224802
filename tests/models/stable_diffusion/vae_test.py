"""models/stable_diffusion/vae.py: what is not there in some files. Parity: pipeline_ and reference_test.py."""

import numpy as np
import tiny_stable_diffusion as tiny

from jaxmoust.models.stable_diffusion.layers import shapes_of
from jaxmoust.models.stable_diffusion.pipeline import build
from jaxmoust.models.stable_diffusion.vae import VAE

IMAGE = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype(np.float32)


def test_vae_without_convolutions_around_its_latents_has_the_identity_there():
    plain = VAE(block_out_channels=(32,), latent_channels=16, use_quant_conv=False, use_post_quant_conv=False)
    params = tiny.weights(shapes_of(plain, IMAGE))
    assert set(params) == {"encoder", "decoder"}
    identity = {
        name: {"kernel": np.eye(width, dtype=np.float32)[None, None], "bias": np.zeros(width, np.float32)}
        for name, width in (("quant_conv", 32), ("post_quant_conv", 16))
    }
    around = plain.clone(use_quant_conv=True, use_post_quant_conv=True)
    expected = around.apply({"params": params | identity}, IMAGE, method=VAE.encode)
    found = plain.apply({"params": params}, IMAGE, method=VAE.encode)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)
    drawn = plain.apply({"params": params}, found[0], method=VAE.decode)
    np.testing.assert_array_equal(drawn, around.apply({"params": params | identity}, found[0], method=VAE.decode))


def test_latents_are_shifted_before_they_are_scaled(tmp_path):
    """As 3's are: (z - shift) * scale, and back."""
    tokenizer = tiny.write_tokenizer(tmp_path)
    configs = tiny.configs(1, len(tokenizer), shallow=True)
    params = tiny.weights(build(configs, tokenizer).parameter_shapes())
    plain, moved = (
        build({**configs, "vae": {**configs["vae"], "scaling_factor": scale, "shift_factor": shift}}, tokenizer)
        for scale, shift in ((1.0, None), (1.5, 0.25))
    )
    image = np.repeat(np.repeat(IMAGE, 2, 1), 2, 2)
    (mean, std), (found, spread) = (pipeline.posterior(params, image) for pipeline in (plain, moved))
    np.testing.assert_allclose(found, (mean - 0.25) * 1.5, atol=1e-5)
    np.testing.assert_allclose(spread, std * 1.5, rtol=1e-6)
    np.testing.assert_allclose(moved.decode_latent(params, found), plain.decode_latent(params, mean), atol=1e-4)
