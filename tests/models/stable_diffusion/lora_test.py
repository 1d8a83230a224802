"""models/stable_diffusion/lora.py: what adapters do to parameters, and files that torch reads."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import tiny_stable_diffusion as tiny

from jaxmoust.core.tree import named_leaves
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import lora


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> stable_diffusion.Loaded:
    return tiny.write_pipeline(tmp_path_factory.mktemp("pipeline") / "1", 1)


@pytest.fixture(scope="module")
def adapters(loaded):
    """Adapters of the U-Net and of the text encoder, both sides random."""
    made = lora.init(jax.random.key(0), loaded.params, 4, (*lora.ATTENTION, *tiny.TEXT_ATTENTION))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32) / 4, made)


def test_fresh_adapters_change_nothing_and_are_of_the_attentions_alone(loaded):
    fresh = lora.init(jax.random.key(0), loaded.params, 4)
    # Two attentions, of four matrices each, in each of four spatial transformers: 1 down, 1 middle, 2 up.
    assert len(fresh) == 32 and all("/attn1/" in name or "/attn2/" in name for name in fresh)
    merged = lora.merge(loaded.params, fresh, 2.0)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, merged, loaded.params)))
    a = np.concatenate([np.ravel(pair["A"]) for pair in fresh.values()])
    assert a.std() == pytest.approx(1 / 4, rel=0.05) and lora.rank_of(fresh) == 4


def test_merging_adds_the_product_to_the_adapted_matrices_alone(loaded, adapters):
    before, after = named_leaves(loaded.params), named_leaves(lora.merge(loaded.params, adapters, 0.5))
    for name, leaf in after.items():
        if (pair := adapters.get(name.removesuffix("/kernel"))) and name.endswith("/kernel"):
            np.testing.assert_allclose(leaf, before[name] + 0.5 * pair["A"] @ pair["B"], atol=1e-5)
        else:
            assert leaf is before[name]


def test_gradients_reach_both_sides(loaded, adapters):
    name = next(iter(adapters))

    def loss(adapters):
        return jnp.sum(named_leaves(lora.merge(loaded.params, adapters, 0.5))[f"{name}/kernel"])

    grads = jax.grad(loss)(adapters)
    np.testing.assert_allclose(grads[name]["A"], 0.5 * np.broadcast_to(adapters[name]["B"].sum(1), (32, 4)), rtol=1e-4)
    others = [pair["A"] for other, pair in grads.items() if other != name]
    assert others and not any(np.any(x) for x in others)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_merged_matrices_keep_their_type(loaded, adapters, dtype):
    half = jax.tree.map(lambda x: x.astype(dtype), loaded.params)
    assert {x.dtype for x in jax.tree.leaves(lora.merge(half, adapters, 1.0))} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    ("rank", "names", "said"),
    [(0, lora.ATTENTION, "allowed are 1 to 32"), (33, lora.ATTENTION, "allowed are 1 to 32"), (4, ("to_x",), "to_x")],
)
def test_impossible_ranks_and_matrices_are_refused(loaded, rank, names, said):
    with pytest.raises(ValueError, match=said):
        lora.init(jax.random.key(0), loaded.params, rank, names)
    with pytest.raises(ValueError, match="which these parameters lack"):
        lora.merge(loaded.params["unet"], {"absent": {"A": np.ones((1, 1)), "B": np.ones((1, 1))}}, 1.0)


def test_what_is_saved_is_loaded_with_its_scale(loaded, adapters, tmp_path):
    lora.save(tmp_path / "lora.safetensors", adapters, alpha=8.0)
    again, scale = lora.load(tmp_path / "lora.safetensors", loaded.params)
    assert scale == 2.0 and again.keys() == adapters.keys()
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again, dict(adapters))))
    assert lora.load(tmp_path / "lora.safetensors", loaded.params, alpha=4.0)[1] == 1.0


def test_file_has_pefts_names_layout_and_metadata(loaded, adapters, tmp_path):
    lora.save(tmp_path / "lora.safetensors", adapters, alpha=8.0)
    tensors = safetensors.numpy.load_file(tmp_path / "lora.safetensors")
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
    assert tensors[f"{name}.lora_A.weight"].shape == (4, 32) and tensors[f"{name}.lora_B.weight"].shape == (32, 4)
    assert "text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_A.weight" in tensors
    with safetensors.safe_open(tmp_path / "lora.safetensors", framework="np") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    assert (settings["unet.r"], settings["unet.lora_alpha"], settings["text_encoder.lora_alpha"]) == (4, 8.0, 8.0)
    assert name.removeprefix("unet.") in settings["unet.target_modules"]


def test_file_without_metadata_has_the_scale_that_torch_takes(loaded, adapters, tmp_path):
    lora.save(tmp_path / "lora.safetensors", adapters, alpha=8.0)
    tensors = safetensors.numpy.load_file(tmp_path / "lora.safetensors")
    safetensors.numpy.save_file(tensors, tmp_path / "bare.safetensors")
    assert lora.load(tmp_path / "bare.safetensors", loaded.params)[1] == 1.0
    assert lora.load(tmp_path / "bare.safetensors", loaded.params, alpha=8.0)[1] == 2.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {"lora_unet_down_blocks_0.alpha": np.ones(1), **t}, "no place for lora_unet_down"),
        (lambda t: {k: v[:, :-1] if "lora_A" in k and "attn2.to_k" in k else v for k, v in t.items()}, "attn2/to_k"),
        (lambda t: {k: v for k, v in t.items() if not k.endswith("attn1.to_q.lora_B.weight")}, "attn1/to_q"),
        (lambda t: {}, "no adapters"),
    ],
)
def test_file_that_does_not_fit_is_refused_by_name(loaded, adapters, tmp_path, change, said):
    lora.save(tmp_path / "lora.safetensors", adapters, alpha=8.0)
    tensors = {
        k: np.ascontiguousarray(v) for k, v in safetensors.numpy.load_file(tmp_path / "lora.safetensors").items()
    }
    safetensors.numpy.save_file(
        {k: np.ascontiguousarray(v) for k, v in change(tensors).items()}, tmp_path / "changed.safetensors"
    )
    with pytest.raises(ValueError, match=said):
        lora.load(tmp_path / "changed.safetensors", loaded.params)
    with pytest.raises(ValueError, match="cannot be read"):
        lora.load(tmp_path / "absent.safetensors", loaded.params)


def test_torch_answers_alike_with_the_saved_adapters(loaded, adapters, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("peft")
    from diffusers import StableDiffusionPipeline

    stable_diffusion.save(loaded, tmp_path / "pipeline")
    lora.save(tmp_path / "lora.safetensors", adapters, alpha=8.0)
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline", safety_checker=None, feature_extractor=None)
    pipe.load_lora_weights(str(tmp_path), weight_name="lora.safetensors")
    params = lora.merge(loaded.params, adapters, 2.0)
    ids = loaded.pipeline.tokenize(["a photo of a cat"])
    states = loaded.pipeline.encode_text(params, ids)
    with torch.no_grad():
        theirs = pipe.text_encoder(torch.tensor(ids).long())[0].numpy()
        np.testing.assert_allclose(states, theirs, atol=1e-4)
        x = np.random.default_rng(0).standard_normal((1, 8, 8, 4)).astype(np.float32)
        said = pipe.unet(torch.tensor(x).permute(0, 3, 1, 2), torch.tensor([7]), torch.tensor(theirs)).sample
    answer = loaded.pipeline.unet.apply({"params": params["unet"]}, x, jnp.array([7]), states)
    np.testing.assert_allclose(answer, said.permute(0, 2, 3, 1).numpy(), atol=2e-4)


@pytest.mark.parametrize(
    "said", ["[1]", "1", "{", "[" * 10**5, *(f'{{"unet.lora_alpha": {a}}}' for a in ('"x"', "[1]", "NaN"))]
)
def test_odd_metadata_is_refused_with_the_file(loaded, adapters, tmp_path, said):
    lora.save(tmp_path / "a.safetensors", adapters, 4.0)
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors", metadata={"lora_adapter_metadata": said})
    if said == "[1]":  # says nothing of an alpha
        assert lora.load(tmp_path / "a.safetensors", loaded.params)[1] == 1
        return
    with pytest.raises(ValueError, match=r"a\.safetensors cannot be read"):
        lora.load(tmp_path / "a.safetensors", loaded.params)


@pytest.mark.parametrize("shape", [(), (3,), (0, 32), (4, 0), (4, 32, 1, 1)])
def test_adapters_of_odd_shapes_are_refused_by_name(loaded, adapters, tmp_path, shape):
    lora.save(tmp_path / "a.safetensors", adapters, 4.0)
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    name = next(name for name in tensors if name.endswith("lora_A.weight"))
    safetensors.numpy.save_file({**tensors, name: np.zeros(shape, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="cannot be adapted by"):
        lora.load(tmp_path / "a.safetensors", loaded.params)
