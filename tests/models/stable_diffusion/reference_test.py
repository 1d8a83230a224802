"""Our networks against the last Flax ones of diffusers (0.39) and transformers (4), where those are installed.

Their trees have the same names as ours, so that the same weights serve both. In spatial transformers they compute the
tanh's GELU and have another epsilon than torch, which moves a deep U-Net's answer by 3e-4; that is mended here. Torch's
own answers lie in the fixtures of pipeline_test.py.
"""

import functools
import json
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stable_diffusion as tiny
from flax import linen as nn

from jaxmoust.core.diffusion import denoise, solvers
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion.clip import TextTower
from jaxmoust.models.stable_diffusion.layers import shapes_of
from jaxmoust.models.stable_diffusion.unet import UNet
from jaxmoust.models.stable_diffusion.vae import VAE

diffusers = pytest.importorskip("diffusers", "0.39", exc_type=ImportError)
transformers = pytest.importorskip("transformers", exc_type=ImportError)
if not hasattr(diffusers, "FlaxStableDiffusionPipeline"):
    pytest.skip("Flax models left diffusers in 0.40: install the extra diffusers[flax]", allow_module_level=True)

PROMPTS, GUIDANCE, NUM_STEPS = ("a photo of a cat", "a dog"), 2.0, 4
PARITY = 1e-4  # the project's bound; float32 sums in another order: 1e-5 was seen


@pytest.fixture(autouse=True)
def mended(monkeypatch):
    """Gives their spatial transformers, the only users of GELU and norms in that file, torch's."""
    layers = types.SimpleNamespace(
        **{
            **vars(nn),
            "gelu": functools.partial(nn.gelu, approximate=False),
            "GroupNorm": lambda num_groups, epsilon: nn.GroupNorm(num_groups, epsilon=1e-6),
        }
    )
    monkeypatch.setattr("diffusers.models.attention_flax.nn", layers)


def fixed(config: dict) -> dict:
    """Settings that their Flax networks know, at what their code has built in."""
    return {k: v for k, v in config.items() if k not in ("norm_num_groups", "upcast_attention")}


def stock(folder: Path, params: dict) -> tuple:
    """The pipeline of a folder, its parameters beside it."""
    configs = {
        part: json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae", "text_encoder")
    }
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    scheduler = diffusers.FlaxDDIMScheduler.from_config(scheduler)
    text = transformers.CLIPTextConfig(**configs["text_encoder"])
    pipe = diffusers.FlaxStableDiffusionPipeline(
        vae=diffusers.FlaxAutoencoderKL.from_config(configs["vae"]),
        text_encoder=transformers.FlaxCLIPTextModel(text, _do_init=False),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=diffusers.FlaxUNet2DConditionModel.from_config(fixed(configs["unet"])),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
    )
    return pipe, {**params, "scheduler": scheduler.create_state()}


@pytest.mark.parametrize("kind", [1, 2])
def test_pipeline_draws_what_the_stock_one_draws_from_the_same_folder(tmp_path, kind):
    """A few guided steps of DDIM from the same noise, up to the image in [0, 1]."""
    tokenizer = tiny.write_tokenizer(tmp_path / "tokenizer")
    configs = tiny.configs(kind, len(tokenizer))
    configs["unet"]["norm_num_groups"] = 32
    pipeline = stable_diffusion.pipeline.build(configs, tokenizer)
    made = stable_diffusion.Loaded(pipeline, tiny.weights(pipeline.parameter_shapes()))
    stable_diffusion.save(made, tmp_path / "pipeline")

    loaded = stable_diffusion.load(str(tmp_path / "pipeline"))
    noise = np.random.default_rng(0).standard_normal((1, 8, 8, 4)).astype(np.float32)
    states = loaded.pipeline.encode_text(loaded.params, loaded.pipeline.tokenize(PROMPTS))
    cond, uncond = (loaded.pipeline.denoiser(loaded.params, states[i : i + 1]) for i in range(2))
    sigmas = loaded.pipeline.sigmas(NUM_STEPS)

    @jax.jit
    def draw(x):
        latent = solvers.euler(denoise.guide(cond, uncond, GUIDANCE), x, sigmas)
        return loaded.pipeline.decode_latent(loaded.params, latent)

    ours = jnp.clip(draw(noise * np.sqrt(1 + sigmas[0] ** 2)) / 2 + 0.5, 0, 1)
    pipe, params = stock(tmp_path / "pipeline", loaded.params)
    ids, no_ids = (
        pipe.tokenizer([p], padding="max_length", max_length=tiny.LENGTH, return_tensors="np").input_ids
        for p in PROMPTS
    )
    theirs = pipe(
        ids, params, jax.random.key(0), NUM_STEPS, 16, 16, GUIDANCE, noise.transpose(0, 3, 1, 2), no_ids, jit=False
    ).images
    assert np.std(theirs) > 0.05
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=PARITY)


XL = {
    **tiny.UNET,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": [2, 4],
    "transformer_layers_per_block": [1, 2],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 24,
}


def test_unet_of_xl_answers_as_the_stock_one():
    """Which reads two encoders' states, the text as a whole, and six sizes; and is deeper at its lower level."""
    rng = np.random.default_rng(0)
    x, states, pooled = (rng.standard_normal(s).astype(np.float32) for s in ((2, 8, 8, 4), (2, 20, 32), (2, 24)))
    t, sizes = jnp.array([7.0, 640.0]), np.array([[16, 16, 0, 0, 16, 16], [12, 20, 4, 0, 16, 16]], np.float32)
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in XL.items() if k in UNet.__dataclass_fields__}
    ours = UNet(**{**fields, "norm_num_groups": 32})
    params = tiny.weights(shapes_of(ours, x, t, states, (pooled, sizes)))
    stock = diffusers.FlaxUNet2DConditionModel.from_config(fixed(XL))
    expected = stock.apply(
        {"params": params}, x.transpose(0, 3, 1, 2), t, states, {"text_embeds": pooled, "time_ids": sizes}
    ).sample.transpose(0, 2, 3, 1)
    found = ours.apply({"params": params}, x, t, states, (pooled, sizes))
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=PARITY)


def test_vae_of_16_channels_answers_as_the_stock_one():
    config = {**tiny.VAE, "latent_channels": 16}
    image = np.random.default_rng(0).uniform(-1, 1, (2, 16, 24, 3)).astype(np.float32)
    ours = VAE(block_out_channels=(32, 64), latent_channels=16)
    params = tiny.weights(shapes_of(ours, image))
    stock = diffusers.FlaxAutoencoderKL.from_config(config)
    theirs = stock.apply({"params": params}, image.transpose(0, 3, 1, 2), method=stock.encode).latent_dist
    mean, std = ours.apply({"params": params}, image, method=VAE.encode)
    np.testing.assert_allclose(mean, theirs.mean, rtol=0, atol=PARITY)
    np.testing.assert_allclose(std, theirs.std, rtol=0, atol=PARITY)
    decoded = stock.apply({"params": params}, theirs.mean, method=stock.decode).sample.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours.apply({"params": params}, mean, method=VAE.decode), decoded, rtol=0, atol=PARITY)


@pytest.mark.parametrize(("act", "end"), [("quick_gelu", 2), ("gelu", 50)], ids=["L", "H and bigG"])
def test_text_tower_with_projection_answers_as_the_stock_one(act, end):
    """The states before the last layer, and the projected state of the token that ends the text."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = {**sizes, "vocab_size": 60, "projection_dim": 24, "hidden_act": act, "eos_token_id": end}
    ids = np.array([[1, 7, 9, 50, 0, 0, 0, 0], [1, 50, 50, 50, 50, 50, 50, 50]])
    ours = TextTower(**config, project=True)
    params = tiny.weights(shapes_of(ours, ids))
    stock = transformers.models.clip.modeling_flax_clip.FlaxCLIPTextModelWithProjectionModule(
        transformers.CLIPTextConfig(**config)
    )
    place = np.broadcast_to(np.arange(8), ids.shape)
    theirs = stock.apply({"params": params}, ids, np.ones_like(ids), place, output_hidden_states=True)
    found = ours.apply({"params": params}, ids)
    np.testing.assert_allclose(found["states"], theirs.last_hidden_state, rtol=0, atol=PARITY)
    np.testing.assert_allclose(found["penultimate"], theirs.hidden_states[-2], rtol=0, atol=PARITY)
    np.testing.assert_allclose(found["pooled"], theirs.text_embeds, rtol=0, atol=PARITY)
