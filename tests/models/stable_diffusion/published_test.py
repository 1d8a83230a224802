"""The settings of the published pipelines: they are taken as they are, and mean what torch's diffusers makes of them.

fixtures/{sd15,sd21,sd21_base}/ hold the JSON files of Stable Diffusion 1.5, 2.1 (768 px) and 2.1-base
as they were published with the weights (runwayml/stable-diffusion-v1-5, stabilityai/stable-diffusion-2-1 and -base),
without paths of their makers' machines. No weights: networks are measured on shapes alone.
"""

import json
import shutil
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stable_diffusion as tiny

from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import folder, schedule
from jaxmoust.models.stable_diffusion.clip import TextTower
from jaxmoust.models.stable_diffusion.layers import attend, shapes_of
from jaxmoust.models.stable_diffusion.mmdit import MMDiT
from jaxmoust.models.stable_diffusion.pipeline import StableDiffusion, build
from jaxmoust.models.stable_diffusion.t5 import T5Encoder
from jaxmoust.models.stable_diffusion.tokenizer import open_tokenizer
from jaxmoust.models.stable_diffusion.unet import UNet
from jaxmoust.models.stable_diffusion.vae import VAE

FIXTURES = Path(__file__).parent / "fixtures"
PARTS = ("unet", "vae", "text_encoder")


def published(name: str) -> dict[str, dict]:
    configs = {part: json.loads((FIXTURES / name / part / "config.json").read_text()) for part in PARTS}
    configs["scheduler"] = json.loads((FIXTURES / name / "scheduler" / "scheduler_config.json").read_text())
    configs["model_index"] = json.loads((FIXTURES / name / "model_index.json").read_text())
    return configs


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> Path:
    """A small vocabulary, which begins as CLIP's does."""
    path = tmp_path_factory.mktemp("vocabulary")
    tiny.write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def pipelines(vocabulary) -> dict[str, StableDiffusion]:
    tokenizer = open_tokenizer(vocabulary)
    return {name: build(published(name), tokenizer) for name in ("sd15", "sd21", "sd21_base")}


@pytest.mark.parametrize(
    ("name", "unet", "text", "px"),
    [
        ("sd15", 859_520_964, 123_060_480, 512),
        ("sd21", 865_910_724, 340_387_840, 768),
        ("sd21_base", 865_910_724, 340_387_840, 512),
    ],
)
def test_published_pipeline_has_the_published_numbers_of_parameters(pipelines, name, unet, text, px):
    pipeline = pipelines[name]
    shapes = pipeline.parameter_shapes()
    counts = {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in shapes.items()}
    assert counts == {"unet": unet, "vae": 83_653_863, "text_encoder": text}
    assert pipeline.image_px == px and pipeline.latent_shape(px) == (px // 8, px // 8, 4)
    assert pipeline.text_encoder.max_position_embeddings == 77


XL = {
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
}
LATENTS = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 16}
# transformer/config.json of stable-diffusion-3-medium-diffusers, stable-diffusion-3.5-medium and -large.
OF_3 = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 192}
OF_35 = OF_3 | {"qk_norm": "rms_norm", "dual_attention_layers": (*range(13),), "pos_embed_max_size": 384}
OF_35_LARGE = {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"}
XXL = {"d_model": 4096, "d_ff": 10_240, "num_layers": 24, "num_heads": 64}
WIDE = {"hidden_size": 1280, "intermediate_size": 5120, "projection_dim": 1280, "num_hidden_layers": 32}


@pytest.mark.parametrize(
    ("module", "inputs", "count"),
    [
        (UNet(**XL), [(1, 4, 4, 4), (1,), (1, 1, 2048), [(1, 1280), (1, 6)]], 2_567_463_684),
        (VAE(**LATENTS, use_quant_conv=False, use_post_quant_conv=False), [(1, 8, 8, 3)], 83_819_683),
        (TextTower(768, 3072, 768, project=True), [(1, 1)], 123_650_304),
        (TextTower(**WIDE, num_attention_heads=20, project=True), [(1, 1)], 694_659_840),
        (T5Encoder(**XXL), [(1, 1)], 4_762_310_656),
        (MMDiT(**OF_3), [(1, 2, 2, 16), (1,), (1, 1, 4096), (1, 2048), (1, 1536)], 2_028_328_000),
        (MMDiT(**OF_35), [(1, 2, 2, 16), (1,), (1, 1, 4096), (1, 2048), (1, 1536)], 2_243_171_520),
        (MMDiT(**OF_35_LARGE), [(1, 2, 2, 16), (1,), (1, 1, 4096), (1, 2048), (1, 2432)], 8_056_627_520),
    ],
    ids=["unet of XL", "vae of 3", "CLIP-L", "CLIP-bigG", "T5-XXL", "3-medium", "3.5-medium", "3.5-large"],
)
def test_networks_of_xl_and_3_have_the_published_numbers_of_parameters(module, inputs, count):
    def shape(size):
        return jax.ShapeDtypeStruct(size, jnp.int32 if isinstance(module, TextTower | T5Encoder) else jnp.float32)

    given = [tuple(map(shape, size)) if isinstance(size, list) else shape(size) for size in inputs]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes_of(module, *given))) == count


@pytest.mark.parametrize(
    ("name", "prediction"), [("sd15", "epsilon"), ("sd21", "v_prediction"), ("sd21_base", "epsilon")]
)
def test_published_schedule_has_the_published_levels_and_steps(pipelines, name, prediction):
    """50 steps are 981, 961, ..., 1, as torch's DDIM walks them; the last level of all has sigma 14.6146."""
    pipeline = pipelines[name]
    assert pipeline.prediction == prediction
    assert list(schedule.timesteps(published(name)["scheduler"], 50)) == list(range(981, 0, -20))
    np.testing.assert_allclose(pipeline.table[[0, -1]], [0.029167, 14.6146], rtol=1e-4)  # as many digits as are known
    assert pipeline.sigmas(50)[0] == np.float32(pipeline.table[981])


@pytest.mark.parametrize("name", ["sd15", "sd21", "sd21_base"])
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
@pytest.mark.parametrize("num_steps", [20, 50])
def test_timesteps_are_those_of_torchs_scheduler(name, scheduler, num_steps):
    """A file that does not say how it spaces is spaced as its scheduler does."""
    pytest.importorskip("torch")
    import diffusers

    config = {**published(name)["scheduler"], "_class_name": scheduler}
    theirs = getattr(diffusers, scheduler).from_config(config)
    theirs.set_timesteps(num_steps)
    found = schedule.timesteps(config, num_steps)
    np.testing.assert_allclose(found, theirs.timesteps.numpy(), rtol=1e-6)


def test_file_of_2022_means_the_size_that_was_trained(vocabulary):
    """It says 32 for networks that were trained at 64; a small network of today keeps what it says."""
    tokenizer = open_tokenizer(vocabulary)
    configs = published("sd15")
    configs["unet"] |= {"_diffusers_version": "0.6.0", "sample_size": 32}
    assert build(configs, tokenizer).image_px == 512
    configs["unet"] |= {"_diffusers_version": "0.39.0"}
    assert build(configs, tokenizer).image_px == 256


def test_schedule_of_2022_is_moved_on_by_one():
    """Torch's pipelines of 1.x and 2.x take steps_offset 1, whatever the file says."""
    config = published("sd15")["scheduler"]
    expected = schedule.timesteps(config, 50)
    del config["prediction_type"], config["steps_offset"]
    assert np.array_equal(schedule.timesteps(config, 50), expected)
    assert folder.noise_table(config)[1] == "epsilon"


def test_attention_is_right_in_float16_where_its_products_overflow_there():
    """Which files of 2.x ask for (upcast_attention): products of 1e5, beyond float16's 65,504, are held in float32."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 6, 2, 8)).astype(np.float16) for _ in range(3))
    q, k = q * np.float16(200), k * np.float16(200)
    logits = np.einsum("blnh,bsnh->bnls", q.astype(np.float64), k.astype(np.float64))
    assert np.abs(logits).max() > 65_504
    weight = np.exp((logits - logits.max(-1, keepdims=True)) / np.sqrt(8))
    expected = np.einsum("bnls,bsnh->blnh", weight / weight.sum(-1, keepdims=True), v.astype(np.float64))
    np.testing.assert_allclose(attend(q, k, v), expected, atol=4e-3)  # float16 has 11 bits


@pytest.mark.parametrize(
    ("capability", "dtype", "width", "chosen"),
    [
        ("8.0", "float16", 64, "cudnn"),
        ("9.0", "bfloat16", 128, "cudnn"),
        ("12.0", "bfloat16", 40, "cudnn"),
        ("7.5", "float16", 64, "xla"),  # a T4
        ("9.0", "float32", 64, "xla"),
        ("9.0", "bfloat16", 160, "xla"),  # the lower levels of 1.x
        ("", "bfloat16", 64, "xla"),
    ],
)
def test_attention_is_cudnns_where_that_can_compute_it(monkeypatch, capability, dtype, width, chosen):
    q = np.zeros((1, 4, 2, width), jnp.dtype(dtype))
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(compute_capability=capability)])
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *_, implementation, **how: implementation)
    assert attend(q, q, q) == chosen


@pytest.mark.parametrize(("name", "padding"), [("sd15", "<|endoftext|>"), ("sd21", "!"), ("sd21_base", "!")])
def test_prompts_are_padded_as_the_checkpoint_says(vocabulary, tmp_path, name, padding):
    """2.x pads with token 0, 1.x with the token that ends a text."""
    path = shutil.copytree(vocabulary, tmp_path / "tokenizer")
    shutil.copytree(FIXTURES / name / "tokenizer", path, dirs_exist_ok=True)
    tokenizer = open_tokenizer(path)
    (ids,) = build(published(name), tokenizer).tokenize(["a cat"])
    assert len(ids) == 77 and tokenizer.settings["pad_token"] == padding
    assert set(ids[10:]) == {tokenizer.id_of(padding)}


def test_pipeline_of_the_package_is_found_by_name(tmp_path, monkeypatch):
    (tmp_path / "assets" / "small").mkdir(parents=True)
    (tmp_path / "assets" / "small" / "model_index.json").write_text("{}")
    (tmp_path / "assets" / "other").mkdir()
    monkeypatch.setattr(folder, "ASSETS", tmp_path / "assets")
    monkeypatch.chdir(tmp_path)
    assert folder.find("small") == tmp_path / "assets" / "small"
    with pytest.raises(ValueError, match="small of this package"):
        folder.find("other")
    (tmp_path / "small").mkdir()
    assert folder.find("small") == Path("small")


@pytest.mark.parametrize("fast", [False, True])
def test_folder_with_learnt_words_loads(tmp_path, fast):
    """Beside vocab.json, words that torch's textual inversion added; the text encoder may have rows to spare."""
    tiny.write_pipeline(tmp_path / "plain", 1)
    plain = stable_diffusion.load(str(tmp_path / "plain"))
    extended = stable_diffusion.add_tokens(plain, {"<mine>": "a cat", "<yours>": "a dog"})
    stable_diffusion.save(extended, tmp_path / "learnt")
    if fast:
        CLIPTokenizerFast = pytest.importorskip("transformers").CLIPTokenizerFast
        tokenizer = CLIPTokenizerFast.from_pretrained(tmp_path / "learnt" / "tokenizer")
        shutil.rmtree(tmp_path / "learnt" / "tokenizer")
        tokenizer.save_pretrained(tmp_path / "learnt" / "tokenizer")
        (tmp_path / "learnt" / "tokenizer" / "added_tokens.json").unlink(missing_ok=True)
        assert (tmp_path / "learnt" / "tokenizer" / "tokenizer.json").is_file()
    again = stable_diffusion.load(str(tmp_path / "learnt"))
    assert len(again.pipeline.tokenizer) == len(plain.pipeline.tokenizer) + 2
    (ids,) = again.pipeline.tokenize(["a <mine> <yours>"])
    assert [len(plain.pipeline.tokenizer), len(plain.pipeline.tokenizer) + 1] == list(ids[2:4])
    for prompt in ("a cat", "a <mine> <yours>"):
        expected = extended.pipeline.encode_text(extended.params, extended.pipeline.tokenize([prompt]))
        found = again.pipeline.encode_text(again.params, again.pipeline.tokenize([prompt]))
        assert np.array_equal(found, expected)


def test_torch_reads_the_words_that_are_saved_and_answers_alike(tmp_path):
    torch = pytest.importorskip("torch")
    from diffusers import StableDiffusionPipeline

    plain = tiny.write_pipeline(tmp_path / "plain", 1)
    added = stable_diffusion.add_tokens(plain, {"<mine>": "a cat", "<yours>": "a dog"})
    stable_diffusion.save_tokens(added, ("<mine>", "<yours>"), tmp_path / "tokens")
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "plain", safety_checker=None, feature_extractor=None)
    for file in sorted((tmp_path / "tokens").iterdir()):
        pipe.load_textual_inversion(str(file))
    prompt = "a photo of <mine> a <yours>"
    ids = pipe.tokenizer([prompt], padding="max_length", max_length=tiny.LENGTH, return_tensors="pt").input_ids
    assert np.array_equal(ids.numpy(), added.pipeline.tokenize([prompt]))
    with torch.no_grad():
        theirs = pipe.text_encoder(ids)[0].numpy()
    np.testing.assert_allclose(added.pipeline.encode_text(added.params, ids.numpy()), theirs, atol=1e-5)
