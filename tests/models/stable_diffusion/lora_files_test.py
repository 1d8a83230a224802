"""models/stable_diffusion/lora_files.py: every public layout of adapters, and files that torch reads.

What torch's libraries wrote, and what torch made of it, lies in fixtures/adapters.npz, by make_adapters.py beside it.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import tiny_stable_diffusion as tiny

from jaxmoust.core.tree import named_leaves
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import lora, lora_files
from jaxmoust.models.stable_diffusion.weights import to_torch

FIXTURE = Path(__file__).parent / "fixtures" / "adapters.npz"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> stable_diffusion.Loaded:
    return tiny.make_pipeline(tmp_path_factory.mktemp("pipeline"), 1, shallow=True)


@pytest.fixture(scope="module")
def adapters(loaded):
    """Adapters of the U-Net and of the text encoder, both sides random."""
    made = lora.init(jax.random.key(0), loaded.params, 4, (*lora.ATTENTION, *tiny.TEXT_ATTENTION))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32) / 4, made)


@pytest.fixture(scope="module")
def of_torch():
    with np.load(FIXTURE) as entries:
        return dict(entries)


def write(of_torch, name, folder):
    """Puts a file of the fixture into a folder, under the name that its library gives it."""
    (folder / ("adapter_model.safetensors" if name == "peft" else "lora.safetensors")).write_bytes(
        of_torch[f"{name}/file"]
    )
    if f"{name}/config" in of_torch:
        (folder / "adapter_config.json").write_bytes(of_torch[f"{name}/config"])
    return folder


def change(loaded, adapters, scale=1.0):
    """What adapters add to the tensors that torch has, every fourth row, where that is not nothing."""
    before, after = (
        {f"{part}.{k}": v for part in ("unet", "text_encoder") for k, v in to_torch(params[part]).items()}
        for params in (loaded.params, lora.merged(lora.attach(loaded.params, adapters, scale)))
    )
    return {k: (v - before[k])[::4] for k, v in after.items() if not np.array_equal(v, before[k])}


LAYOUTS = ("scripts", "settings", "ranks", "rslora", "dora", "convolutions", "half", "kohya", "kohya_te1", "locon")


@pytest.mark.parametrize("name", [*LAYOUTS, "processors"])
def test_file_of_every_layout_changes_what_it_changes_in_torch(loaded, of_torch, tmp_path, name):
    found = change(loaded, lora_files.load(write(of_torch, name, tmp_path), loaded.params))
    wanted = {key.removeprefix(f"{name}/"): x for key, x in of_torch.items() if key.startswith(f"{name}/")}
    del wanted["file"]
    assert found.keys() == wanted.keys() and len(wanted) >= 2
    for key, x in wanted.items():
        assert np.std(x) > 0.05
        np.testing.assert_allclose(found[key], x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["peft", "unet"])
def test_file_without_the_parts_name_goes_where_its_matrices_are(loaded, of_torch, tmp_path, name):
    """Torch's pipeline passes over both; the adapters are those of "settings", of which its U-Net has the same."""
    found = change(loaded, lora_files.load(write(of_torch, name, tmp_path), loaded.params))
    assert len(found) == 2 and all(key.startswith("unet") for key in found)
    for key, x in found.items():
        np.testing.assert_allclose(x, of_torch[f"settings/{key}"], rtol=0, atol=1e-5)


def test_kohyas_magnitudes_are_those_of_dora(loaded, of_torch, tmp_path):
    """Torch leaves them out, and applies the rest at another strength; here they are PEFT's: rows of that length."""
    made = lora_files.load(write(of_torch, "kohya_dora", tmp_path), loaded.params)
    after = named_leaves(lora.merged(lora.attach(loaded.params, made)))
    assert len(made) == 2
    for name, pair in made.items():
        np.testing.assert_allclose(np.linalg.norm(after[f"{name}/kernel"], axis=0), pair["magnitude"], rtol=1e-5)


def test_adapters_that_cannot_be_honoured_are_refused_by_name(loaded, of_torch, tmp_path):
    with pytest.raises(ValueError, match=r"to_out\.0\.lora_B\.bias \(32,\), which is LoRA with biases"):
        lora_files.load(write(of_torch, "biases", tmp_path), loaded.params)
    (tmp_path / "lora.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"is a pickle.*\n  python -c"):
        lora_files.load(tmp_path / "lora.bin", loaded.params)
    write(of_torch, "peft", tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "lora.safetensors").unlink()
    for changed in (
        {"init_lora_weights": "pissa"},
        {"peft_type": "LOHA"},
        {"use_dora": True},
        {"alpha_pattern": {"(": 1}},
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, **changed}))
        with pytest.raises(ValueError, match=r"pissa|LOHA|use_dora|alphas"):
            lora_files.load(tmp_path, loaded.params)
    (tmp_path / "adapter_config.json").unlink()  # its strength is unknown
    with pytest.raises(ValueError, match=r"adapter_config\.json, and there is none beside it\. Put the one"):
        lora_files.load(tmp_path, loaded.params)


@pytest.mark.parametrize("form", ["peft", "kohya"])
@pytest.mark.parametrize("name", ["settings", "locon", "ranks"])
def test_what_is_attached_is_saved_in_either_form(loaded, of_torch, tmp_path, form, name):
    """Adapters of any file, scales and ranks and all, go out as a file that changes the same."""
    made = lora_files.load(write(of_torch, name, tmp_path), loaded.params)
    attached = lora.attached(lora.attach(loaded.params, made, 0.5))
    lora_files.save(tmp_path / "again.safetensors", attached, form=form)
    found = change(loaded, lora_files.load(tmp_path / "again.safetensors", loaded.params))
    for key, x in change(loaded, made, 0.5).items():
        np.testing.assert_allclose(found[key], x, rtol=0, atol=1e-6)


def test_what_is_saved_is_loaded_with_its_scale(loaded, adapters, tmp_path):
    lora_files.save(tmp_path / "lora.safetensors", adapters, alpha=8.0)
    again = lora_files.load(tmp_path / "lora.safetensors", loaded.params)
    assert {pair.pop("scale") for pair in again.values()} == {2.0} and again.keys() == adapters.keys()
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, again, dict(adapters))))


@pytest.mark.parametrize("form", ["peft", "kohya", "scripts"])
def test_text_adapters_named_as_by_transformers_5_find_their_matrices(tmp_path, form):
    """Its CLIPTextModel has no level text_model; XL's second encoder, CLIPTextModelWithProjection, has it still."""
    xl = tiny.make_pipeline(tmp_path, "xl", shallow=True)
    towers = {part: xl.params[part] for part in ("text_encoder", "text_encoder_2")}
    made = lora.init(jax.random.key(0), towers, 2, ("q_proj", "out_proj", "fc1"))
    lora_files.save(tmp_path / "a.safetensors", made, alpha=4.0, form="kohya" if form == "kohya" else "peft")
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    level = "te1_text_model_" if form == "kohya" else "text_encoder.text_model."
    tensors = {name.replace(level, level.replace("text_model", "")[:-1]): x for name, x in tensors.items()}
    if form == "scripts":
        sides = (("lora_A", "lora_linear_layer.down"), ("lora_B", "lora_linear_layer.up"), ("out_proj", "to_out"))
        for side, theirs in (*sides, ("q_proj", "to_q")):
            tensors = {name.replace(side, theirs): x for name, x in tensors.items()}
    assert len([name for name in tensors if "text_model" in name]) * 2 == len(tensors)
    settings = {"lora_alpha": 4, "alpha_pattern": {"^encoder.layers.0.mlp.fc1": 1}}
    metadata = {"lora_adapter_metadata": json.dumps(settings)}
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors", metadata)
    again = lora_files.load(tmp_path / "a.safetensors", xl.params)
    assert again.keys() == made.keys()
    for name, pair in again.items():
        patterned = form != "kohya" and name.endswith("layers/0/mlp/fc1")
        assert pair["scale"] == (0.5 if patterned else 2.0)
        np.testing.assert_array_equal(pair["A"], made[name]["A"])


def test_file_has_pefts_names_layout_and_metadata(loaded, adapters, tmp_path):
    lora_files.save(tmp_path / "lora.safetensors", adapters, alpha=8.0)
    tensors = safetensors.numpy.load_file(tmp_path / "lora.safetensors")
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
    assert tensors[f"{name}.lora_A.weight"].shape == (4, 32) and tensors[f"{name}.lora_B.weight"].shape == (32, 4)
    assert "text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_A.weight" in tensors
    with safetensors.safe_open(tmp_path / "lora.safetensors", framework="np") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    assert (settings["unet.r"], settings["unet.lora_alpha"], settings["text_encoder.lora_alpha"]) == (4, 8.0, 8.0)
    assert name.removeprefix("unet.") in settings["unet.target_modules"]


def test_file_without_metadata_has_the_scale_that_torch_takes(loaded, adapters, tmp_path):
    lora_files.save(tmp_path / "lora.safetensors", adapters, alpha=8.0)
    tensors = safetensors.numpy.load_file(tmp_path / "lora.safetensors")
    safetensors.numpy.save_file(tensors, tmp_path / "bare.safetensors")
    again = lora_files.load(tmp_path / "bare.safetensors", loaded.params)
    assert {pair["scale"] for pair in again.values()} == {1.0}
    mixed = {k: v[:2] if k.endswith("attn1.to_q.lora_A.weight") else v for k, v in tensors.items()}
    mixed = {k: v[:, :2] if k.endswith("attn1.to_q.lora_B.weight") else v for k, v in mixed.items()}
    safetensors.numpy.save_file({k: np.ascontiguousarray(v) for k, v in mixed.items()}, tmp_path / "mixed.safetensors")
    with pytest.raises(ValueError, match=r"unet has adapters of ranks \[2, 4\] that do not say their alpha"):
        lora_files.load(tmp_path / "mixed.safetensors", loaded.params)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {"lora_unet_down_blocks_0.alpha": np.ones(1), **t}, "no place for lora_unet_down"),
        (lambda t: {"lora_unet_mid_block_proj_in.hada_w1_a": np.ones((2, 2)), **t}, "which is LoHa"),
        (lambda t: {k: v[:, :-1] if "lora_A" in k and "attn2.to_k" in k else v for k, v in t.items()}, "attn2/to_k"),
        (lambda t: {k: v for k, v in t.items() if not k.endswith("attn1.to_q.lora_B.weight")}, "attn1/to_q"),
        (lambda t: {}, "no adapters"),
    ],
)
def test_file_that_does_not_fit_is_refused_by_name(loaded, adapters, tmp_path, change, said):
    lora_files.save(tmp_path / "lora.safetensors", adapters, alpha=8.0)
    tensors = {
        k: np.ascontiguousarray(v) for k, v in safetensors.numpy.load_file(tmp_path / "lora.safetensors").items()
    }
    safetensors.numpy.save_file(
        {k: np.ascontiguousarray(v) for k, v in change(tensors).items()}, tmp_path / "changed.safetensors"
    )
    with pytest.raises(ValueError, match=said):
        lora_files.load(tmp_path / "changed.safetensors", loaded.params)
    with pytest.raises(ValueError, match="cannot be read"):
        lora_files.load(tmp_path / "absent.safetensors", loaded.params)


@pytest.mark.parametrize(
    "said", ["[1]", "1", "{", "[" * 10**5, *(f'{{"unet.lora_alpha": {a}}}' for a in ('"x"', "[1]", "NaN"))]
)
def test_odd_metadata_is_refused_with_the_file(loaded, adapters, tmp_path, said):
    lora_files.save(tmp_path / "a.safetensors", adapters, 4.0)
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors", metadata={"lora_adapter_metadata": said})
    with pytest.raises(ValueError, match=r"a\.safetensors(:.* has the alpha | cannot be read)"):
        lora_files.load(tmp_path / "a.safetensors", loaded.params)


@pytest.mark.parametrize("shape", [(), (3,), (0, 32), (4, 0), (4, 32, 3, 3)])
def test_adapters_of_odd_shapes_are_refused_by_name(loaded, adapters, tmp_path, shape):
    lora_files.save(tmp_path / "a.safetensors", adapters, 4.0)
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    name = next(name for name in tensors if name.endswith("lora_A.weight"))
    safetensors.numpy.save_file({**tensors, name: np.zeros(shape, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="cannot be adapted by"):
        lora_files.load(tmp_path / "a.safetensors", loaded.params)
