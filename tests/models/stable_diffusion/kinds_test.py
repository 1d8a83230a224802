"""XL, 3 and 3.5 compute what torch's diffusers does: texts, latents, networks, trajectories, losses; and files.

Pipelines are small and have random weights, drawn from their names. What torch made of them lies in fixtures/; beside
torch, `PYTHONPATH=.:tests python tests/models/stable_diffusion/kinds_test.py` makes the files.
"""

import json
import shutil
import tracemalloc
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tiny_stable_diffusion as tiny

from jaxmoust.core.diffusion import denoise, solvers
from jaxmoust.jobs.parts import pipelines
from jaxmoust.jobs.parts.inputs import Inputs
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import lora, weights
from jaxmoust.models.stable_diffusion.clip import TextTower
from jaxmoust.models.stable_diffusion.layers import run, shapes_of, stacked
from jaxmoust.models.stable_diffusion.mmdit import MMDiT
from jaxmoust.models.stable_diffusion.pipeline import build
from jaxmoust.models.stable_diffusion.t5 import T5Encoder
from jaxmoust.models.stable_diffusion.unet import UNet
from jaxmoust.models.stable_diffusion.vae import VAE

FIXTURES = Path(__file__).parent / "fixtures"
PROMPTS = ("a photo of a cat", "a dog")
KINDS = ("xl", "sd3", "sd35")
GUIDANCE = 5.0
STEPS = {"xl": 20, "sd3": 10, "sd35": 10}
STRENGTH = 0.5
TIMES = np.array([40.0, 620.0], np.float32)
# The published depths, at some 50th of the width.
_UNET = tiny.UNET | {"cross_attention_dim": 64, "layers_per_block": 2}
_FIRST = _UNET | {
    "block_out_channels": [32, 32, 64, 64],
    "norm_num_groups": 8,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
_WIDE = {"qk_norm": "rms_norm"}
DEEP = {
    "sd1": _FIRST,
    "sd2": _FIRST | {"attention_head_dim": [2, 2, 4, 4], "use_linear_projection": True},
    "xl": _UNET
    | tiny.XL["unet"]
    | {
        "block_out_channels": [32, 32, 32],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": [2, 2, 2],
        "transformer_layers_per_block": [1, 2, 10],
    },
    "sd3": tiny.SD3["transformer"] | {"num_layers": 24},
    "sd35": tiny.SD3["transformer"] | {"num_layers": 24, "dual_attention_layers": [*range(13)]} | _WIDE,
    "sd35_large": tiny.SD3["transformer"] | {"num_layers": 38} | _WIDE,
}
# Likewise: texts by L, H and bigG, which end where their highest number is; by T5; and the VAE of 4 channels.
DEEP_TEXT = {
    "clip_l": tiny.TEXT | {"num_hidden_layers": 12},
    "clip_h": tiny.TEXT | {"num_hidden_layers": 23, "hidden_act": "gelu"},
    "clip_bigg": tiny.TEXT | tiny.WIDE_TEXT | {"num_hidden_layers": 32},
    "t5": tiny.SD3["text_encoder_3"] | {"num_layers": 24},
}
for _config in DEEP_TEXT.values():
    _config |= {"vocab_size": 60, "eos_token_id": 59, "bos_token_id": 58, "pad_token_id": 59}
DEEP_VAE = tiny.VAE | {"block_out_channels": [32, 32, 64, 64], "layers_per_block": 2}
DEEP_VAE |= {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
IDS = np.array([[58, *range(3, 20), 59, 59]] * 2, np.int32)


def inputs(channels: int) -> dict[str, np.ndarray]:
    """What both sides are asked, images and latents [B, H, W, C]."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    given = {name: normal(2, 8, 8, channels) for name in ("x", "noise", "start")}
    given |= {"states": normal(2, 5, 80 if channels == 16 else 64), "pooled": normal(2, 48 if channels == 16 else 24)}
    return given | {"image": rng.uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32), "position": normal(16, 32)}


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, kind) -> Path:
    path = tmp_path_factory.mktemp(kind) / "pipeline"
    tiny.write_pipeline(path, kind)
    return path


@pytest.fixture(scope="module")
def loaded(folder) -> stable_diffusion.Loaded:
    return stable_diffusion.load(str(folder), text_length=tiny.T5_LENGTH)


@pytest.fixture(scope="module")
def of_torch(kind) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{kind}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def texts(loaded) -> list:
    """Of the two prompts, and of none."""
    return stable_diffusion.encode_prompts(loaded, [*PROMPTS, ""])


def assert_close(found, expected, limit=1e-4) -> None:
    assert found.shape == expected.shape
    assert np.abs(np.asarray(found) - expected).max() <= limit * np.abs(expected).max()


def batch(texts: list):
    return jax.tree.map(lambda *of: jnp.stack(of), *texts)


def test_texts_are_read_as_torch_reads_them(loaded, of_torch, texts):
    for part, ids in loaded.pipeline.tokenize(PROMPTS).items():
        assert np.array_equal(ids, of_torch[f"ids_{part}"])
    assert_close(batch(texts)["states"], of_torch["states"], 1e-5)
    assert_close(batch(texts)["pooled"], of_torch["pooled"], 1e-5)
    whole = loaded.pipeline.encode_text(loaded.params, loaded.pipeline.tokenize([*PROMPTS, ""]))
    assert_close(whole["states"], of_torch["states"], 1e-5)


def test_vae_encodes_and_decodes_as_torchs(loaded, of_torch):
    mean, std = loaded.pipeline.posterior(loaded.params, inputs(loaded.pipeline.net.in_channels)["image"])
    assert_close(mean, of_torch["mean"], 1e-5)
    assert_close(std, of_torch["std"], 1e-5)
    assert_close(loaded.pipeline.decode_latent(loaded.params, of_torch["mean"]), of_torch["decoded"], 2e-5)


@pytest.fixture(scope="module")
def walk(loaded, texts):
    """Of guided steps under the first prompt."""
    pipeline = loaded.pipeline
    params = jax.device_put(pipeline.net_params(loaded.params, 16))
    return tiny.walker(denoise.guide_jointly(pipeline.denoiser(params, batch([texts[0], texts[2]])), GUIDANCE))


def test_guided_trajectory_is_torchs(loaded, of_torch, walk, kind):
    """From the text alone: 20 steps of XL, 10 of 3 and 3.5, which start at infinite noise."""
    sigmas = loaded.pipeline.sigmas(STEPS[kind])
    start = inputs(loaded.pipeline.net.in_channels)["start"][:1]
    first = sigmas[0] if kind != "xl" else np.sqrt(1 + sigmas[0] ** 2)
    with jax.default_matmul_precision("highest"):
        assert_close(walk(start * first, sigmas), of_torch["latent"])


def test_trajectory_from_an_image_is_torchs(loaded, of_torch, walk, kind):
    """Half of the steps, from a latent and torch's own noise."""
    kept = round(STRENGTH * STEPS[kind])
    sigmas = loaded.pipeline.sigmas(STEPS[kind])[-kept - 1 :]
    start = inputs(loaded.pipeline.net.in_channels)["x"][:1] + sigmas[0] * of_torch["image_noise"]
    with jax.default_matmul_precision("highest"):
        assert_close(walk(start, sigmas), of_torch["from_image"])


def test_steps_by_hand_are_the_solvers(loaded, walk, kind):
    """What the two tests above walk is `solvers.euler`."""
    sigmas, x = loaded.pipeline.sigmas(2), jnp.ones((1, 2, 2, 1))
    rule = lambda x, sigma: jnp.tanh(x)  # noqa: E731
    expected = solvers.euler(rule, x, sigmas)
    for sigma, sigma_next in pairwise(sigmas):
        x0 = rule(x, sigma)
        x = x0 + (sigma_next / sigma) * (x - x0)
    np.testing.assert_allclose(x, expected, rtol=1e-6)


def test_loss_at_given_noise_is_that_of_torchs_training_scripts(loaded, of_torch, texts, kind):
    """Of the noise for XL, of the velocity for 3 (`--precondition_outputs=0`)."""
    pipeline, given = loaded.pipeline, jax.tree.map(jnp.asarray, inputs(loaded.pipeline.net.in_channels))
    sigma = jnp.asarray(of_torch["loss_sigma"])
    params = pipeline.net_params(loaded.params, 16)
    denoiser = pipeline.denoiser(params, batch(texts[:2]))
    with jax.default_matmul_precision("highest"):
        loss = denoise.diffusion_loss(denoiser, given["x"], sigma, given["noise"], pipeline.weight(sigma))
    assert_close(loss, of_torch["loss"])


@pytest.mark.parametrize("name", DEEP)
def test_network_of_the_published_depth_answers_as_torchs(name):
    """At a fraction of the width; run step by step, as compiling so many blocks takes longer."""
    net, params, given = deep(name)
    with jax.default_matmul_precision("highest"):
        found = run(net, params, *given)
    with np.load(FIXTURES / "deep.npz") as file:
        assert_close(found, file[name])


@pytest.mark.parametrize("name", DEEP_TEXT)
def test_text_encoder_of_the_published_depth_answers_as_torchs(name):
    net, params = deep_text(name)
    with jax.default_matmul_precision("highest"):
        found = run(net, params, IDS)
    with np.load(FIXTURES / "deep.npz") as file:
        for key, answer in found.items():
            assert_close(answer, file[f"{name}_{key}"])


def test_vae_of_the_published_depth_answers_as_torchs():
    net, params = deep_vae()
    image = inputs(4)["image"]
    with jax.default_matmul_precision("highest"), np.load(FIXTURES / "deep.npz") as file:
        for found, name in zip(run(net, params, image, method=VAE.encode), ("mean", "std"), strict=True):
            assert_close(found, file[f"vae_{name}"])
        assert_close(run(net, params, file["vae_mean"], method=VAE.decode), file["vae_decoded"])


@pytest.mark.parametrize("name", ["xl", "sd35"])
def test_equal_blocks_compiled_once_answer_as_torchs(name):
    net, params, given = deep(name)
    with jax.default_matmul_precision("highest"):
        found = run(net.clone(scan=True, remat=True), jax.tree.map(np.asarray, stacked(params)), *given)
    with np.load(FIXTURES / "deep.npz") as file:
        assert_close(found, file[name])


@pytest.mark.parametrize(("name", "sizes"), [("sd3", [1, 23]), ("sd35", [1, 10, 13]), ("sd35_large", [1, 37])])
def test_blocks_in_a_row_that_are_equal_are_one(name, sizes):
    blocks = {k: v for k, v in stacked(deep(name)[1]).items() if k.startswith("transformer_blocks_")}
    lengths = [leaves["attn"]["to_q"]["kernel"].shape for leaves in blocks.values()]
    assert sorted(shape[0] if len(shape) == 3 else 1 for shape in lengths) == sizes


def test_adapters_answer_inside_of_blocks_that_are_compiled_once():
    net, params, given = deep("sd3", num_layers=4)
    rng = np.random.default_rng(0)
    adapters = {
        name: {side: rng.normal(0, 0.3, leaf.shape).astype(np.float32) for side, leaf in sides.items()}
        for name, sides in lora.init(jax.random.key(0), params, 2).items()
    }
    adapted = lora.attach(params, adapters)
    with jax.default_matmul_precision("highest"):
        plain, expected = (run(net, tree, *given) for tree in (params, adapted))
        found = run(net.clone(scan=True), jax.tree.map(np.asarray, stacked(adapted)), *given)
    assert_close(found, expected, 1e-5)
    assert np.abs(expected - plain).max() > 0.1 * np.abs(plain).max()


def test_stacked_leaves_are_made_one_at_a_time():
    """What a network of equal blocks takes beside its parameters, on the host, is the largest of them."""
    blocks = {f"transformer_blocks_{i}": {f"kernel_{k}": np.ones((256, 256)) for k in range(8)} for i in range(16)}
    tree, size = stacked(blocks), 16 * 256 * 256 * 8
    tracemalloc.start()
    for leaf in jax.tree.leaves(tree):
        assert leaf.shape == np.array(leaf).shape == (16, 256, 256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * size  # of eight such leaves


def test_blocks_with_adapters_that_differ_stay_as_they_are(third):
    """Such as a file whose ranks differ by block."""
    params = third.pipeline.net_params(third.params, 16)
    names = [name for name in lora.targets(params["transformer"]) if name.startswith("transformer_blocks_0/")]
    first = {name: {"A": np.ones((32, 1)), "B": np.ones((1, 32))} for name in names[:1]}
    adapted = {**params, "transformer": lora.attach(params["transformer"], first)}
    pipeline, same = third.pipeline.stacked(adapted)
    assert pipeline is third.pipeline and same is adapted


def deep(name: str, **changes: int):
    """A network of published depth, but for changes, its weights, and what it is asked."""
    config = DEEP[name] | changes
    kind = MMDiT if "patch_size" in config else UNet
    net = kind(**fields_of(kind, config))
    given = inputs(net.in_channels)
    sizes = np.array([[16, 16, 0, 0, 16, 16]] * 2, np.float32)
    more = {"xl": [(given["pooled"], sizes)]}.get(name, [given["pooled"], given["position"]] if kind is MMDiT else [])
    arrays = (given["x"], TIMES, given["states"], *more)
    return net, tiny.weights(shapes_of(net, *arrays)), arrays


def deep_text(name: str):
    """A text encoder of published depth, and its weights."""
    config = DEEP_TEXT[name]
    kind = T5Encoder if "d_model" in config else TextTower
    net = kind(**fields_of(kind, config), **({"project": True} if name == "clip_bigg" else {}))
    return net, tiny.weights(shapes_of(net, IDS))


def deep_vae():
    """A VAE of published depth, and its weights."""
    net = VAE(**fields_of(VAE, DEEP_VAE))
    return net, tiny.weights(shapes_of(net, inputs(4)["image"]))


def fields_of(kind: type, config: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in kind.__dataclass_fields__}


# --- files, prompts, sizes -------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded_to_the_last_bit(loaded, tmp_path):
    stable_diffusion.save(loaded, tmp_path / "copy")
    again = stable_diffusion.load(str(tmp_path / "copy"), text_length=tiny.T5_LENGTH)
    assert again.pipeline == loaded.pipeline and hash(again.pipeline) == hash(loaded.pipeline)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, loaded.params))
    longer = stable_diffusion.load(str(tmp_path / "copy"), text_length=30)
    assert longer.pipeline != loaded.pipeline


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_parameters_lie_on_the_host_in_the_type_that_is_asked_for(folder, dtype):
    half = pipelines.open_pipeline({"path": str(folder), "param_dtype": dtype}, Inputs())
    assert {type(leaf) for leaf in jax.tree.leaves(half.params)} == {np.ndarray}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(half.params)} == {dtype}


@pytest.mark.parametrize("stored", [np.float32, jnp.bfloat16])
def test_parameters_beyond_float16_are_refused_by_name(folder, tmp_path, stored):
    wide = shutil.copytree(folder, tmp_path / "wide")
    file = wide / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = {name: x.astype(stored) for name, x in safetensors.numpy.load_file(file).items()}
    tensors["decoder.conv_out.bias"][0] = 1e5
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(ValueError, match=r"up to 65,504: decoder/conv_out/bias\. Set pipeline\.param_dtype"):
        stable_diffusion.load(str(wide), param_dtype=np.float16)
    assert (
        stable_diffusion.load(str(wide), param_dtype=jnp.bfloat16).params["vae"]["decoder"]["conv_out"]["bias"][0] > 9e4
    )


def test_float16_parameters_answer_what_the_same_numbers_in_float32_do(third):
    """Computed in float32, as the computation's type says, whatever holds them."""
    half = jax.tree.map(lambda x: x.astype(np.float16), third.params)
    rounded = jax.tree.map(lambda x: x.astype(np.float32), half)
    ids, latent = third.pipeline.tokenize(PROMPTS), np.ones((1, 4, 4, 16), np.float32)
    for answer in (lambda p: third.pipeline.encode_text(p, ids), lambda p: third.pipeline.decode_latent(p, latent)):
        one, other = (jax.tree.leaves(jax.jit(answer)(params)) for params in (half, rounded))
        assert one and all(leaf.std() > 0 for leaf in one), "an answer that says something"
        assert len(one) == len(other) and all(map(np.array_equal, one, other))


@pytest.mark.parametrize("task", ["Img2Img", "Inpaint"])
def test_folder_that_was_saved_for_another_task_is_the_same_pipeline(loaded, folder, kind, tmp_path, task):
    other, name = shutil.copytree(folder, tmp_path / "other"), "XL" if kind == "xl" else "3"
    edit(other / "model_index.json", _class_name=f"StableDiffusion{name}{task}Pipeline")
    again = stable_diffusion.load(str(other), text_length=tiny.T5_LENGTH)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, loaded.params))
    edit(other / f"{loaded.pipeline.NET}/config.json", in_channels=9)  # a mask, and the image without what it covers
    with pytest.raises(ValueError, match=" from 9 to "):
        stable_diffusion.load(str(other))
    without = {"text_encoder": [None, None], "tokenizer": [None, None]}
    edit(other / "model_index.json", **without)
    for part in without:
        shutil.rmtree(other / part)
    with pytest.raises(ValueError, match=r"lacks .*text_encoder, tokenizer\. It was made without, as XL's refiner"):
        stable_diffusion.load(str(other))


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_text_encoders_without_the_level_that_transformers_5_leaves_out_load(loaded, folder, tmp_path):
    """Its CLIPTextModel, built from a config, saves embeddings.* for text_model.embeddings.*."""
    short = shutil.copytree(folder, tmp_path / "short")
    files = sorted(short.glob("text_encoder*/model.safetensors"))[:2]
    for file in files:
        tensors = safetensors.numpy.load_file(file)
        assert any(name.startswith("text_model.") for name in tensors)
        tensors = {name.removeprefix("text_model."): x for name, x in tensors.items()}
        safetensors.numpy.save_file(tensors, file)
    again = stable_diffusion.load(str(short))
    assert jax.tree.all(jax.tree.map(np.array_equal, again.params, loaded.params))
    del tensors["encoder.layers.0.mlp.fc1.bias"]
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(ValueError, match=r"missing from the file: text_model\.encoder\.layers\.0\.mlp\.fc1\.bias"):
        stable_diffusion.load(str(short))


@pytest.fixture(scope="module")
def third(tmp_path_factory) -> stable_diffusion.Loaded:
    return tiny.make_pipeline(tmp_path_factory.mktemp("third"), "sd3", shallow=True)


def test_3_without_t5_has_zeros_in_its_place(third, tmp_path):
    folder = tmp_path / "pipeline"
    stable_diffusion.save(third, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"text_encoder_3": [None, None]}))
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / part)
    without = stable_diffusion.load(str(folder), text_length=7)
    whole, part = (stable_diffusion.encode_prompts(of, ["a cat"])[0] for of in (third, without))
    assert part["states"].shape == (tiny.LENGTH + 7, 80) and not part["states"][tiny.LENGTH :].any()
    np.testing.assert_array_equal(part["states"][: tiny.LENGTH], whole["states"][: tiny.LENGTH])
    index.pop("text_encoder_3")  # which no longer says that it is meant
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="lacks text_encoder_3, tokenizer_3"):
        stable_diffusion.load(str(folder))


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("transformer", {"qk_norm": "layer_norm"}, "qk_norm 'layer_norm'"),
        ("transformer", {"caption_projection_dim": 48}, "tokens 48 and 32 wide"),
        ("transformer", {"joint_attention_dim": 64}, "attends to 64"),
        ("transformer", {"pooled_projection_dim": 64}, "reads 64"),
        ("transformer", {"in_channels": 4}, "from 4 to 16"),
        ("transformer", {"colour": 1}, "colour is 1"),
        ("text_encoder_3", {"feed_forward_proj": "relu"}, "feed_forward_proj 'relu'"),
        ("scheduler", {"use_dynamic_shifting": True}, "use_dynamic_shifting set"),
        ("scheduler", {"use_karras_sigmas": True}, "use_karras_sigmas set"),
        ("scheduler", {"shift": -1.0}, "shift -1.0"),
        ("scheduler", {"_class_name": "DDIMScheduler"}, "'DDIMScheduler' is no flow's"),
    ],
)
def test_settings_that_would_draw_something_else_are_refused(third, part, changes, said):
    pipeline = third.pipeline
    changed = {**pipeline.configs, part: {**pipeline.configs[part], **changes}}
    with pytest.raises(ValueError, match=said):
        build(changed, pipeline.tokenizers)


def test_what_a_kind_cannot_do_is_refused(third):
    with pytest.raises(ValueError, match="float16, which T5"):
        build(third.pipeline.configs, third.pipeline.tokenizers, jnp.float16)
    with pytest.raises(ValueError, match="vectors of 3 text encoders here, and this package trains those"):
        stable_diffusion.add_tokens(third, {"<mine>": "cat"})
    with pytest.raises(ValueError, match=r"multiples of 4, such as 48\. It was trained at 16"):
        third.pipeline.latent_shape(64)  # beyond the table of positions


def test_vae_of_xl_computes_in_float32_where_the_rest_is_float16(loaded, kind):
    """It overflows float16, which its file says (force_upcast)."""
    if kind == "xl":
        half = build(loaded.pipeline.configs, loaded.pipeline.tokenizers, jnp.float16)
        assert (half.net.dtype, half.vae.dtype) == (jnp.float16, jnp.float32)


def main() -> None:
    """Makes the fixtures."""
    import tempfile

    deep_answers = {name: torch_deep(name) for name in DEEP} | torch_deep_vae()
    for name in DEEP_TEXT:
        deep_answers |= {f"{name}_{key}": answer for key, answer in torch_deep_text(name).items()}
    np.savez_compressed(FIXTURES / "deep.npz", **deep_answers)
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as root:
            tiny.write_pipeline(Path(root) / "pipeline", kind)
            np.savez_compressed(FIXTURES / f"{kind}.npz", **torch_answers(Path(root) / "pipeline", kind))


def nchw(x: np.ndarray):
    import torch

    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)


def nhwc(x) -> np.ndarray:
    return x.permute(0, 2, 3, 1).numpy()


def torch_deep(name: str) -> np.ndarray:
    """What torch's network answers."""
    import diffusers
    import torch

    torch.set_grad_enabled(False)
    _, params, (x, t, states, *more) = deep(name)
    config = {k: v for k, v in DEEP[name].items() if not k.startswith("_")}
    state = {k: torch.tensor(v) for k, v in weights.to_torch(params).items()}
    x, t, states = nchw(x), torch.tensor(t), torch.tensor(states)
    if name in ("sd1", "sd2", "xl"):
        theirs = diffusers.UNet2DConditionModel(**config)
        theirs.load_state_dict(state)
        pooled, sizes = map(torch.tensor, more[0]) if more else (None, None)
        return nhwc(theirs(x, t, states, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample)
    theirs = diffusers.SD3Transformer2DModel(**config)
    side, (top, width) = config["pos_embed_max_size"], (4, 32)
    table = torch.zeros(side, side, width)
    table[top : top + 4, top : top + 4] = torch.tensor(more[1]).reshape(4, 4, width)
    theirs.load_state_dict(state | {"pos_embed.pos_embed": table.reshape(1, side * side, width)})
    return nhwc(theirs(x, states, torch.tensor(more[0]), t).sample)


def torch_deep_text(name: str) -> dict[str, np.ndarray]:
    """What torch's text encoder answers, by our names."""
    import torch
    import transformers

    torch.set_grad_enabled(False)
    net, params = deep_text(name)
    state = {k: torch.tensor(v) for k, v in weights.to_torch(params).items()}
    if name == "t5":
        theirs = transformers.T5EncoderModel(transformers.T5Config(**DEEP_TEXT[name])).eval()
        state["encoder.embed_tokens.weight"] = state["shared.weight"]
        theirs.load_state_dict(state)
        return {"states": theirs(torch.tensor(IDS).long()).last_hidden_state.numpy()}
    config = transformers.CLIPTextConfig(**DEEP_TEXT[name])
    kind = transformers.CLIPTextModelWithProjection if net.project else transformers.CLIPTextModel
    theirs = kind(config).eval()
    theirs.load_state_dict(state, strict=False)
    unknown = {k for k in theirs.state_dict() if not k.endswith("position_ids")} ^ {*state}
    assert not unknown, unknown
    answer = theirs(torch.tensor(IDS).long(), output_hidden_states=True)
    pooled = answer.text_embeds if net.project else answer.pooler_output
    return {
        "states": answer.last_hidden_state.numpy(),
        "penultimate": answer.hidden_states[-2].numpy(),
        "pooled": pooled.numpy(),
    }


def torch_deep_vae() -> dict[str, np.ndarray]:
    """What torch's VAE answers."""
    import diffusers
    import torch

    torch.set_grad_enabled(False)
    theirs = diffusers.AutoencoderKL(**{k: v for k, v in DEEP_VAE.items() if not k.startswith("_")}).eval()
    theirs.load_state_dict({k: torch.tensor(v) for k, v in weights.to_torch(deep_vae()[1]).items()})
    posterior = theirs.encode(nchw(inputs(4)["image"])).latent_dist
    decoded = theirs.decode(posterior.mean).sample
    return {"vae_mean": nhwc(posterior.mean), "vae_std": nhwc(posterior.std), "vae_decoded": nhwc(decoded)}


def torch_answers(folder: Path, kind: str) -> dict[str, np.ndarray]:
    """What torch's diffusers makes of a folder, images and latents [B, H, W, C]."""
    import diffusers
    import torch

    torch.set_grad_enabled(False)
    flow = kind != "xl"
    text = diffusers.StableDiffusion3Pipeline if flow else diffusers.StableDiffusionXLPipeline
    image = diffusers.StableDiffusion3Img2ImgPipeline if flow else diffusers.StableDiffusionXLImg2ImgPipeline
    pipe = text.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    net = pipe.transformer if flow else pipe.unet
    given = inputs(net.config.in_channels)
    answers = {}
    for part in ("text_encoder", "text_encoder_2", "text_encoder_3")[: 3 if flow else 2]:
        tokenizer = getattr(pipe, part.replace("text_encoder", "tokenizer"))
        length = tiny.T5_LENGTH if part.endswith("3") else tiny.LENGTH
        ids = tokenizer(list(PROMPTS), padding="max_length", max_length=length).input_ids
        answers[f"ids_{part}"] = np.array(ids, np.int32)
    more = {"max_sequence_length": tiny.T5_LENGTH} if flow else {}
    asked = {"prompt_2": None, "prompt_3": None} if flow else {}
    none = {"negative_prompt": ["", ""]} if flow else {}
    states, no, pooled, no_pooled = pipe.encode_prompt(list(PROMPTS), **asked, **none, **more)
    answers |= {"states": torch.cat([states, no[:1]]).numpy(), "pooled": torch.cat([pooled, no_pooled[:1]]).numpy()}
    config = pipe.vae.config
    posterior = pipe.vae.encode(nchw(given["image"])).latent_dist
    shift = config.shift_factor or 0.0
    answers["mean"] = nhwc((posterior.mean - shift) * config.scaling_factor)
    answers["std"] = nhwc(posterior.std * config.scaling_factor)
    answers["decoded"] = nhwc(pipe.vae.decode(posterior.mean).sample)
    how = {
        "prompt": PROMPTS[0],
        "num_inference_steps": STEPS[kind],
        "guidance_scale": GUIDANCE,
        "output_type": "latent",
    }
    how |= more
    answers["latent"] = nhwc(pipe(**how, latents=nchw(given["start"][:1]), height=16, width=16).images)
    other = image(**pipe.components)
    other.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(0)
    answers["image_noise"] = nhwc(
        torch.randn(1, net.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    )
    answers["from_image"] = nhwc(other(**how, image=nchw(given["x"][:1]), strength=STRENGTH, generator=seed).images)
    x0, eps = nchw(given["x"]), nchw(given["noise"])
    index = torch.tensor([40, 620])
    if flow:
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        t, s = scheduler.timesteps[index], scheduler.sigmas[index]
        wide = s[:, None, None, None]
        said = net((1 - wide) * x0 + wide * eps, states, pooled, t, return_dict=False)[0]
        loss, answers["loss_sigma"] = (said - (eps - x0)) ** 2, (s / (1 - s)).numpy()
    else:
        abar = pipe.scheduler.alphas_cumprod[index]
        sizes = torch.tensor([[16.0, 16, 0, 0, 16, 16]] * 2)
        said = net(
            pipe.scheduler.add_noise(x0, eps, index), index, states,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes},
        ).sample  # fmt: skip
        loss, answers["loss_sigma"] = (said - eps) ** 2, ((1 - abar) / abar).sqrt().numpy()
    answers["loss"] = loss.mean((1, 2, 3)).numpy()
    return answers


if __name__ == "__main__":
    main()
