"""models/stable_diffusion/: what is loaded, saved, refused; and that it computes what torch's diffusers does.

Pipelines are small and have random weights. What torch made of them lies in fixtures/, so that the
tests need no torch; weights are drawn anew from their names. Beside torch,
`PYTHONPATH=.:tests python tests/models/stable_diffusion/pipeline_test.py` makes the files.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tiny_stable_diffusion as tiny

from jaxmoust.core.diffusion import denoise
from jaxmoust.models import stable_diffusion

FIXTURES = Path(__file__).parent / "fixtures"
PROMPTS = ("a photo of a cat", "a dog")
GUIDANCE, NUM_STEPS, STRENGTH = 7.5, 20, 0.5


@pytest.fixture(scope="module", params=[1, 2])
def kind(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[int, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    for number in (1, 2):
        tiny.write_pipeline(root / str(number), number)
    return {number: root / str(number) for number in (1, 2)}


@pytest.fixture(scope="module")
def loaded(folders, kind) -> stable_diffusion.Loaded:
    return stable_diffusion.load(str(folders[kind]))


@pytest.fixture(scope="module")
def of_torch(kind) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"sd{kind}.npz") as file:
        return dict(file)


def inputs() -> dict[str, np.ndarray]:
    """What both sides are asked, images and latents [B, H, W, C]."""
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((2, 8, 8, 4)).astype(np.float32),
        "t": np.array([7, 640]),
        "image": rng.uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32),
    }


def assert_close(found, expected, limit) -> None:
    assert found.shape == expected.shape
    assert np.abs(np.asarray(found) - expected).max() <= limit * np.abs(expected).max()


# --- parity with torch -----------------------------------------------------------------------------------------------


def test_text_encoder_answers_as_torchs(loaded, of_torch):
    ids = loaded.pipeline.tokenize(PROMPTS)
    assert np.array_equal(ids, of_torch["ids"])
    assert_close(loaded.pipeline.encode_text(loaded.params, ids), of_torch["states"], 1e-5)


def test_unet_answers_as_torchs(loaded, of_torch):
    """Asked through `denoise`, at the noise levels of two timesteps, and turned back into what the network said."""
    x, t = inputs()["x"], inputs()["t"]
    sigma = loaded.pipeline.table[t].astype(np.float32)
    wide = sigma[:, None, None, None]
    denoiser = loaded.pipeline.denoiser(loaded.params, jnp.asarray(of_torch["states"]))
    with jax.default_matmul_precision("highest"):
        x0 = jax.jit(denoiser)(x * np.sqrt(1 + wide**2), sigma)
    noisy = x * np.sqrt(1 + wide**2)
    if loaded.pipeline.prediction == "epsilon":
        said = (noisy - x0) / wide
    else:
        said = (noisy / (1 + wide**2) - x0) * np.sqrt(1 + wide**2) / wide
    assert_close(said, of_torch["unet"], 5e-5)


def test_vae_encodes_and_decodes_as_torchs(loaded, of_torch):
    image = inputs()["image"]
    mean = loaded.pipeline.encode_image(loaded.params, image)
    assert_close(mean, of_torch["mean"], 1e-5)
    assert_close(loaded.pipeline.decode_latent(loaded.params, jnp.asarray(of_torch["mean"])), of_torch["decoded"], 1e-5)


def test_vae_draws_from_the_posterior_that_torch_has(loaded, of_torch):
    """The spread over many draws is torch's standard deviation, and each draw depends on its key alone."""
    image = np.repeat(inputs()["image"][:1], 400, 0)
    keys = jax.random.split(jax.random.key(0), 400)
    encode = jax.jit(lambda image, keys: loaded.pipeline.encode_image(loaded.params, image, keys))
    drawn = np.asarray(encode(image, keys))
    ratio = drawn.std(0) / of_torch["std"][0]
    assert 0.97 < np.median(ratio) < 1.03
    assert np.array_equal(encode(image[:200], keys[200:]), drawn[200:]) or np.allclose(
        encode(image[:200], keys[200:]), drawn[200:], atol=1e-5
    )


@pytest.fixture(scope="module")
def walk(loaded, of_torch):
    """Of guided steps under the first prompt."""
    denoiser = loaded.pipeline.denoiser(loaded.params, jnp.asarray(of_torch["states"]))
    return tiny.walker(denoise.guide_jointly(denoiser, GUIDANCE))


def test_guided_trajectory_of_20_steps_is_torchs(loaded, of_torch, walk):
    """Our Euler steps in sigma coordinates on the checkpoint's own grid, against torch's DDIM scheduler."""
    grid = loaded.pipeline.sigmas(NUM_STEPS)
    with jax.default_matmul_precision("highest"):
        latent = walk(inputs()["x"][:1] * np.sqrt(1 + grid[0] ** 2), grid)
    assert_close(latent, of_torch["latent"], 1e-4)


def test_trajectory_from_an_image_is_torchs(loaded, of_torch, walk):
    """Half of the steps of torch's image-to-image pipeline, from a latent and torch's own noise."""
    grid = loaded.pipeline.sigmas(NUM_STEPS)[-int(STRENGTH * NUM_STEPS) - 1 :]
    with jax.default_matmul_precision("highest"):
        latent = walk(inputs()["x"][:1] + grid[0] * of_torch["image_noise"], grid)
    assert_close(latent, of_torch["from_image"], 1e-4)


def test_loss_at_given_noise_is_that_of_torchs_training_script(loaded, of_torch):
    """Of the noise in 1.x, of v in 2.x."""
    pipeline, x, eps = loaded.pipeline, jnp.asarray(inputs()["x"]), jnp.asarray(of_torch["noise"])
    sigma = jnp.asarray(pipeline.table[inputs()["t"]], jnp.float32)
    denoiser = pipeline.denoiser(loaded.params, jnp.asarray(of_torch["states"]))
    with jax.default_matmul_precision("highest"):
        loss = denoise.diffusion_loss(denoiser, x, sigma, eps, pipeline.weight(sigma))
    assert_close(loss, of_torch["loss"], 1e-4)


# --- files -----------------------------------------------------------------------------------------------------------


def equal(tree, other) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: np.array_equal(a, b), tree, other)))


def test_what_is_saved_is_loaded_to_the_last_bit(folders, loaded, kind, tmp_path):
    stable_diffusion.save(loaded, tmp_path / "copy")
    again = stable_diffusion.load(str(tmp_path / "copy"))
    assert equal(again.params, loaded.params)
    assert again.pipeline.configs == loaded.pipeline.configs
    for file in ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json"):
        assert json.loads((tmp_path / "copy" / file).read_text()) == json.loads((folders[kind] / file).read_text())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files_load_as_float32(folders, loaded, tmp_path, dtype):
    stable_diffusion.save(loaded, tmp_path / "half", jnp.dtype(dtype))
    half = stable_diffusion.load(str(tmp_path / "half"))
    rounded = jax.tree.map(lambda x: x.astype(jnp.dtype(dtype)).astype(np.float32), loaded.params)
    assert equal(half.params, rounded)
    assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {np.dtype("float32")}
    kept = stable_diffusion.load(str(tmp_path / "half"), param_dtype=jnp.dtype(dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(kept.params)} == {jnp.dtype(dtype)}


def shard(folder: Path) -> None:
    """Cuts the U-Net's file into two, as large ones come."""
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = safetensors.numpy.load_file(whole)
    names = sorted(tensors)
    files = {f"diffusion_pytorch_model-{i + 1:05d}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, part in files.items():
        safetensors.numpy.save_file({name: tensors[name] for name in part}, whole.parent / file)
    index = {"weight_map": {name: file for file, part in files.items() for name in part}}
    (whole.parent / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()


def test_sharded_files_and_variants_and_old_names_load(folders, loaded, kind, tmp_path):
    folder = shutil.copytree(folders[kind], tmp_path / "sharded")
    shard(folder)
    assert equal(stable_diffusion.load(str(folder)).params, loaded.params)

    folder = shutil.copytree(folders[kind], tmp_path / "variant")
    for file in folder.glob("*/*.safetensors"):
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    with pytest.raises(ValueError, match="Set the variant to 'fp16'"):
        stable_diffusion.load(str(folder))
    assert equal(stable_diffusion.load(str(folder), variant="fp16").params, loaded.params)
    for file in folder.glob("vae/*.safetensors"):  # as torch, part by part: whichever has the variant
        file.rename(file.with_name(file.name.replace(".fp16", "")))
    assert equal(stable_diffusion.load(str(folder), variant="fp16").params, loaded.params)
    with pytest.raises(ValueError, match=r"has no files of the variant 'bf16'. Set variant to ''"):
        stable_diffusion.load(str(folder), variant="bf16")

    # VAEs of 2022: attention by 1x1 convolutions under other names; a text encoder with its positions' numbers.
    folder = shutil.copytree(folders[kind], tmp_path / "old")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {}
    for name, tensor in safetensors.numpy.load_file(file).items():
        for new, former in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            if f".{new}." in name:
                name = name.replace(f".{new}.", f".{former}.")
                tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        old[name] = tensor
    safetensors.numpy.save_file(old, file)
    file = folder / "text_encoder" / "model.safetensors"
    positions = {"text_model.embeddings.position_ids": np.arange(tiny.LENGTH)[None]}
    safetensors.numpy.save_file({**safetensors.numpy.load_file(file), **positions}, file)
    assert equal(stable_diffusion.load(str(folder)).params, loaded.params)


def edit(folder: Path, file: str, **changes) -> None:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusionXLInpaintPipeline"},
            r"lacks text_encoder_2, tokenizer_2\. Fetch it again",
        ),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "is a FluxPipeline"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type is 'timestep'"),
        ("unet/config.json", {"norm_num_groups": 24}, "norms of 24 groups"),
        ("unet/config.json", {"norm_num_groups": None}, "norm_num_groups is None"),
        ("unet/config.json", {"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}, "AttnDownBlock2D"),
        ("unet/config.json", {"cross_attention_dim": 48}, "text states of 32"),
        ("unet/config.json", {"in_channels": 9}, "a U-Net from 9 to 4"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "addition_embed_type 'text_time'"),
        ("unet/config.json", {"flip_sin_to_cos": False}, "flip_sin_to_cos is False"),
        ("unet/config.json", {"resnet_out_scale_factor": 2.0}, "resnet_out_scale_factor is 2.0"),
        ("vae/config.json", {"latents_mean": [0.1, 0.2, 0.3, 0.4]}, "latents_mean is"),
        ("vae/config.json", {"up_block_types": ["AttnUpDecoderBlock2D"] * 2}, "up_block_types is"),
        ("text_encoder/config.json", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("text_encoder/config.json", {"vocab_size": 100}, "text encoder that knows 100"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction_type is 'sample'"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "'sigmoid', expected"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "levels of its own"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
    ],
)
def test_pipeline_that_would_draw_something_else_is_refused(folders, tmp_path, file, changes, said):
    folder = shutil.copytree(folders[1], tmp_path / "changed")
    edit(folder, file, **changes)
    with pytest.raises(ValueError, match=said):
        stable_diffusion.load(str(folder))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_missing_extra_and_misshapen_tensors_are_named(folders, tmp_path, part):
    folder = shutil.copytree(folders[1], tmp_path / "changed")
    (file,) = (folder / part).glob("*.safetensors")
    tensors = safetensors.numpy.load_file(file)
    name = next(n for n in sorted(tensors) if n.endswith("weight") and tensors[n].ndim == 2)
    tensors["extra.weight"] = tensors.pop(name)
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(ValueError) as error:
        stable_diffusion.load(str(folder))
    assert name in str(error.value) and "extra.weight" in str(error.value) and str(folder / part) in str(error.value)
    tensors[name] = tensors.pop("extra.weight")[:-1]
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(ValueError, match="shape"):
        stable_diffusion.load(str(folder))


def test_folder_of_another_kind_is_refused_by_name(folders, tmp_path):
    for name, said in (("unet", "is a UNet2DConditionModel"), ("tokenizer", "is no pipeline")):
        with pytest.raises(ValueError, match=said):
            stable_diffusion.load(str(folders[1] / name))
    safetensors.numpy.save_file({"a": np.zeros(1)}, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(ValueError, match="LoRA"):
        stable_diffusion.load(str(tmp_path))
    with pytest.raises(ValueError, match="is no folder"):
        stable_diffusion.load(str(tmp_path / "absent"))
    pickle = shutil.copytree(folders[1], tmp_path / "pickle")
    file = pickle / "unet" / "diffusion_pytorch_model.safetensors"
    for suffix, said in ((".bin", "a pickle.*use_safetensors=False"), (".msgpack", "Flax's.*from_flax=True")):
        file = file.rename(file.with_suffix(suffix))
        with pytest.raises(ValueError, match=f"(?s)A {suffix} is (?=.*import DiffusionPipeline as P){said}"):
            stable_diffusion.load(str(pickle))


def test_hub_that_is_out_of_reach_says_so(monkeypatch):
    import huggingface_hub

    def offline(name, **options):
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ValueError, match=r"cannot reach the hub\. Check the name\. Without a network, type `hf"):
        stable_diffusion.load("some/model")


def test_hub_is_asked_for_safe_files_of_the_variant_alone(monkeypatch, folders):
    import huggingface_hub

    asked = []

    def download(name, **options):
        asked.append((name, options))
        return str(folders[1])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    stable_diffusion.load("some/model", revision="main2")
    with pytest.raises(ValueError, match="has no files of the variant 'fp16'"):
        stable_diffusion.load("some/model", variant="fp16")
    (_, plain), (_, half) = asked
    assert plain["revision"] == "main2" and half["revision"] is None
    assert not any(".bin" in p or ".ckpt" in p for p in (*plain["allow_patterns"], *half["allow_patterns"]))
    assert "unet/*.safetensors" in plain["allow_patterns"] and "unet/*.fp16.safetensors" in half["allow_patterns"]


def test_parts_without_the_variant_are_fetched_plain(monkeypatch, folders, tmp_path):
    import huggingface_hub

    asked, here = [], tmp_path / "cache"

    def download(name, allow_patterns, **options):
        asked.append(allow_patterns)
        wanted = [file for pattern in allow_patterns for file in mixed.glob(pattern)]
        for file in wanted:
            (here / file.relative_to(mixed)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, here / file.relative_to(mixed))
        return str(here)

    mixed = shutil.copytree(folders[1], tmp_path / "mixed")
    file = mixed / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copy(file, file.with_suffix(".fp16.safetensors"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    stable_diffusion.load("some/model", variant="fp16")
    assert asked[1] == [f"{part}/{p}" for part in ("vae", "text_encoder") for p in ("*.safetensors", "*.index.json")]
    assert not (here / "unet" / file.name).exists()


def test_saving_never_writes_over_what_is_there(loaded, tmp_path):
    (tmp_path / "something").write_text("")
    with pytest.raises(ValueError, match="not empty"):
        stable_diffusion.save(loaded, tmp_path)


# --- prompts, sizes, levels ------------------------------------------------------------------------------------------


def test_prompt_that_is_too_long_is_refused_and_never_cut(loaded):
    assert loaded.pipeline.tokenize(["a cat " * 9]).shape == (1, tiny.LENGTH)
    with pytest.raises(ValueError, match="tokens long, expected at most 20"):
        loaded.pipeline.tokenize(["a cat", "a cat " * 10])


@pytest.mark.parametrize("px", [0, 6, 18])
def test_size_that_cannot_be_halved_is_refused(loaded, px):
    assert loaded.pipeline.latent_shape(16) == (8, 8, 4) and loaded.pipeline.image_px == 16
    with pytest.raises(ValueError, match="multiples of 4"):
        loaded.pipeline.latent_shape(px)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("num_steps", [1, 7, 20, 1000])
def test_grid_has_the_levels_of_the_checkpoints_timesteps(folders, tmp_path, spacing, num_steps):
    folder = shutil.copytree(folders[1], tmp_path / "changed")
    edit(folder, "scheduler/scheduler_config.json", timestep_spacing=spacing)
    pipeline = stable_diffusion.load(str(folder)).pipeline
    grid = pipeline.sigmas(num_steps)
    assert len(grid) == num_steps + 1 and grid[-1] == 0 and np.all(np.diff(grid) < 0)
    assert np.isin(grid[:-1], pipeline.table.astype(np.float32)).all()
    if spacing == "trailing":
        assert grid[0] == np.float32(pipeline.table[-1])
    with pytest.raises(ValueError, match="expected 1 to 1000"):
        pipeline.sigmas(1001)


def test_loading_says_nothing_of_deprecation(folders):
    code = f"from jaxmoust.models import stable_diffusion; stable_diffusion.load({str(folders[1])!r})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert out.returncode == 0, out.stderr
    assert "deprecated" not in out.stderr


# --- against torch itself, where it is installed ---------------------------------------------------------------------


def torch_answers(folder: Path) -> dict[str, np.ndarray]:
    """What torch's diffusers makes of a folder, images and latents [B, H, W, C]."""
    import diffusers
    import torch

    torch.set_grad_enabled(False)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, feature_extractor=None)
    given = inputs()

    def nchw(x: np.ndarray):
        return torch.tensor(x).permute(0, 3, 1, 2)

    def nhwc(x) -> np.ndarray:
        return x.permute(0, 2, 3, 1).numpy()

    ids = pipe.tokenizer(list(PROMPTS), padding="max_length", max_length=tiny.LENGTH, return_tensors="pt").input_ids
    states = pipe.text_encoder(ids)[0]
    posterior = pipe.vae.encode(nchw(given["image"])).latent_dist
    scale = pipe.vae.config.scaling_factor
    latent = nchw(given["x"][:1])
    pipe.scheduler.set_timesteps(NUM_STEPS)
    for t in pipe.scheduler.timesteps:
        cond, uncond = (pipe.unet(latent, t, states[i : i + 1]).sample for i in range(2))
        latent = pipe.scheduler.step(uncond + GUIDANCE * (cond - uncond), t, latent).prev_sample
    other = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    how = {"prompt_embeds": states[:1], "negative_prompt_embeds": states[1:], "output_type": "latent"}
    how |= {"num_inference_steps": NUM_STEPS, "guidance_scale": GUIDANCE, "strength": STRENGTH}
    seed = torch.Generator().manual_seed(0)
    from_image = other(**how, image=nchw(given["x"][:1]), generator=seed).images
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    x0, t = nchw(given["x"]), torch.tensor(given["t"])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    scheduler = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    wanted = scheduler.get_velocity(x0, eps, t) if scheduler.config.prediction_type == "v_prediction" else eps
    loss = (pipe.unet(scheduler.add_noise(x0, eps, t), t, states).sample - wanted) ** 2
    return {
        "image_noise": nhwc(noise),
        "from_image": nhwc(from_image),
        "noise": nhwc(eps),
        "loss": loss.mean((1, 2, 3)).numpy(),
        "ids": ids.numpy().astype(np.int32),
        "states": states.numpy(),
        "unet": nhwc(pipe.unet(nchw(given["x"]), torch.tensor(given["t"]), states).sample),
        "mean": nhwc(posterior.mean) * scale,
        "std": nhwc(posterior.std) * scale,
        "decoded": nhwc(pipe.vae.decode(posterior.mean).sample),
        "latent": nhwc(latent),
    }


def test_torch_opens_what_is_saved_and_answers_as_the_fixtures_say(loaded, of_torch, tmp_path):
    pytest.importorskip("torch")
    stable_diffusion.save(loaded, tmp_path / "saved")
    for name, answer in torch_answers(tmp_path / "saved").items():
        assert_close(answer, of_torch[name], 1e-5)


def test_pipelines_are_equal_where_their_settings_are(folders):
    one, again, half, other = (
        stable_diffusion.load(str(folders[kind]), dtype=dtype).pipeline
        for kind, dtype in ((1, jnp.float32), (1, jnp.float32), (1, jnp.bfloat16), (2, jnp.float32))
    )
    assert one is not again and one == again and hash(one) == hash(again)
    scaled = replace(one, configs={**one.configs, "vae": {**one.configs["vae"], "scaling_factor": 0.5}})
    assert one not in (half, other, scaled)


if __name__ == "__main__":
    import tempfile

    FIXTURES.mkdir(exist_ok=True)
    for number in (1, 2):
        with tempfile.TemporaryDirectory() as root:
            tiny.write_pipeline(Path(root) / "pipeline", number)
            np.savez_compressed(FIXTURES / f"sd{number}.npz", **torch_answers(Path(root) / "pipeline"))
