"""models/stable_diffusion/ldm.py: the published names of tensors, and checkpoints in one file."""

import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny_stable_diffusion as tiny

from jaxmoust.core.tree import named_leaves
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import ldm, lora_files
from jaxmoust.models.stable_diffusion.weights import to_torch

# Levels of 1.5's U-Net: two blocks each, attention at the three higher ones on the way down, and at the last three up.
UNET = {
    "conv_in.weight": "input_blocks.0.0.weight",
    "time_embedding.linear_1.weight": "time_embed.0.weight",
    "down_blocks.0.resnets.0.norm1.weight": "input_blocks.1.0.in_layers.0.weight",
    "down_blocks.0.resnets.1.time_emb_proj.bias": "input_blocks.2.0.emb_layers.1.bias",
    "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
    "down_blocks.1.resnets.0.conv_shortcut.weight": "input_blocks.4.0.skip_connection.weight",
    "down_blocks.1.attentions.0.proj_in.weight": "input_blocks.4.1.proj_in.weight",
    "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_out.0.bias": (
        "input_blocks.8.1.transformer_blocks.0.attn2.to_out.0.bias"
    ),
    "up_blocks.2.attentions.0.transformer_blocks.0.norm1.bias": "output_blocks.6.1.transformer_blocks.0.norm1.bias",
    "down_blocks.3.resnets.1.conv2.weight": "input_blocks.11.0.out_layers.3.weight",
    "mid_block.resnets.1.conv1.weight": "middle_block.2.in_layers.2.weight",
    "mid_block.attentions.0.norm.weight": "middle_block.1.norm.weight",
    "up_blocks.0.resnets.2.norm2.weight": "output_blocks.2.0.out_layers.0.weight",
    "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.1.conv.weight",
    "up_blocks.1.attentions.2.proj_out.weight": "output_blocks.5.1.proj_out.weight",
    "up_blocks.1.upsamplers.0.conv.bias": "output_blocks.5.2.conv.bias",
    "up_blocks.3.resnets.2.conv_shortcut.bias": "output_blocks.11.0.skip_connection.bias",
    "conv_norm_out.weight": "out.0.weight",
    "conv_out.weight": "out.2.weight",
    "add_embedding.linear_2.weight": "label_emb.0.2.weight",
}
VAE = {
    "encoder.conv_in.weight": "encoder.conv_in.weight",
    "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": "encoder.down.1.block.0.nin_shortcut.weight",
    "encoder.down_blocks.0.downsamplers.0.conv.bias": "encoder.down.0.downsample.conv.bias",
    "encoder.down_blocks.3.resnets.1.conv1.weight": "encoder.down.3.block.1.conv1.weight",
    "encoder.down_blocks.2.resnets.1.norm2.weight": "encoder.down.2.block.1.norm2.weight",
    "encoder.mid_block.resnets.1.conv2.weight": "encoder.mid.block_2.conv2.weight",
    "decoder.mid_block.attentions.0.group_norm.bias": "decoder.mid.attn_1.norm.bias",
    "decoder.mid_block.attentions.0.to_out.0.weight": "decoder.mid.attn_1.proj_out.weight",
    "decoder.mid_block.attentions.0.to_q.weight": "decoder.mid.attn_1.q.weight",
    "decoder.up_blocks.0.resnets.2.conv1.weight": "decoder.up.3.block.2.conv1.weight",
    "decoder.up_blocks.0.upsamplers.0.conv.weight": "decoder.up.3.upsample.conv.weight",
    "decoder.conv_norm_out.weight": "decoder.norm_out.weight",
    "quant_conv.weight": "quant_conv.weight",
}


def test_names_are_the_published_ones():
    assert ldm.unet_names(UNET) == UNET
    assert ldm.vae_names(VAE) == VAE


OPEN_CLIP = (
    ("text_model.encoder.layers", "transformer.resblocks"),
    ("layer_norm", "ln_"),
    ("self_attn.out", "attn.out"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.embeddings.", ""),
)


def open_clip(states, begin):
    """A text tower of CLIP as OpenCLIP holds it: three matrices in one, its projection the other way round."""
    tensors = {}
    for name, x in states.items():
        if ".q_proj." in name:
            whole = np.concatenate([states[name.replace(".q_proj.", f".{side}_proj.")] for side in "qkv"])
            number, kind = name.split(".")[3], name.rpartition(".")[2]
            tensors[f"{begin}transformer.resblocks.{number}.attn.in_proj_{kind}"] = whole
        elif name == "text_projection.weight":
            tensors[f"{begin}text_projection"] = x.T
        elif ".k_proj." not in name and ".v_proj." not in name:
            old = name.replace("text_model.final_layer_norm", "ln_final")
            for ours, theirs in OPEN_CLIP:
                old = old.replace(ours, theirs)
            tensors[begin + old] = x
    return tensors


def one_file(loaded, path, text):
    """Writes a pipeline as a checkpoint in one file; `text` says how its text encoder is held."""
    parts = {part: to_torch(tree) for part, tree in loaded.params.items()}
    names = {"unet": ldm.unet_names(parts["unet"]), "vae": ldm.vae_names(parts["vae"])}
    begins = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
    tensors = {begins[p] + names[p][k]: x for p in begins for k, x in parts[p].items()}
    tensors |= {"model_ema.decay": np.ones(()), "alphas_cumprod": np.ones(1000)}
    states = parts["text_encoder"]
    if text == "clip":
        tensors |= {f"cond_stage_model.transformer.{k}": x for k, x in states.items()}
    if text == "short":
        tensors |= {f"cond_stage_model.transformer.{k.removeprefix('text_model.')}": x for k, x in states.items()}
    if text == "open_clip":
        tensors |= open_clip(states, "cond_stage_model.model.")
        # 2.x leaves its last layer out.
        tensors["cond_stage_model.model.transformer.resblocks.2.ln_1.weight"] = np.ones(32)
    if text == "xl":
        tensors |= {f"conditioner.embedders.0.transformer.{k}": x for k, x in states.items()}
        tensors |= open_clip(parts["text_encoder_2"], "conditioner.embedders.1.model.")
    safetensors.numpy.save_file({k: np.ascontiguousarray(x) for k, x in tensors.items()}, path)


@pytest.mark.parametrize(("kind", "text"), [(1, "clip"), (1, "short"), (2, "open_clip"), ("xl", "xl")])
def test_checkpoint_in_one_file_has_the_parameters_of_its_folder(tmp_path, kind, text):
    written = tiny.write_pipeline(tmp_path / "like", kind, shallow=True)
    one_file(written, tmp_path / "one.safetensors", text)
    loaded = stable_diffusion.load(str(tmp_path / "one.safetensors"), like=str(tmp_path / "like"))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, loaded.params, written.params)))
    assert loaded.pipeline == stable_diffusion.load(str(tmp_path / "like")).pipeline


def test_one_file_that_is_not_whole_or_is_another_is_refused_by_name(tmp_path):
    written = tiny.write_pipeline(tmp_path / "like", 1, shallow=True)
    one, like = tmp_path / "one.safetensors", str(tmp_path / "like")
    one_file(written, one, "clip")
    tensors = safetensors.numpy.load_file(one)
    changes = (
        ({"model.diffusion_model.extra": np.ones(1)}, "not wanted by the model: model.diffusion_model.extra"),
        ({"model.diffusion_model.out.2.weight": None}, "missing from the file: conv_out.weight"),
        (dict.fromkeys([k for k in tensors if k.startswith("first")]), r"has no vae .*\n  python -c"),
    )
    for change, said in changes:
        safetensors.numpy.save_file({k: v for k, v in {**tensors, **change}.items() if v is not None}, one)
        with pytest.raises(ValueError, match=f"(?s){said}"):
            stable_diffusion.load(str(one), like=like)
    odd = (
        (str(one), "", "`like` is needed"),
        (like, like, "`like` is needed"),
        ("a.ckpt", "", "3.5 with StableDiffusion3"),
    )
    for name, of, said in odd:
        with pytest.raises(ValueError, match=said):
            stable_diffusion.load(name, like=of)
    (tmp_path / "folder").mkdir()
    one.rename(tmp_path / "folder" / "one.safetensors")
    with pytest.raises(ValueError, match=r"in one file: give its path, and in pipeline\.like"):
        stable_diffusion.load(str(tmp_path / "folder"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", ""),
        ("conditioner.embedders.1.model.ln_final.bias", "XL"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.proj.bias", "3"),
    ],
)
def test_line_that_converts_a_file_names_the_class_of_its_kind(tmp_path, name, kind):
    """Torch's DiffusionPipeline opens folders of every kind, and no single file."""
    safetensors.numpy.save_file({name: np.ones(1)}, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match=f"import StableDiffusion{kind}Pipeline as P; P.from_single_file"):
        ldm.open_part(tmp_path / "one.safetensors", "vae", {})


def test_kohyas_names_of_xl_find_their_matrices(tmp_path):
    """Trained on Stability's own U-Net, under its names; both text encoders; a dense proj_in held as a convolution."""
    shapes = {
        "unet": {
            "down_blocks_0": {"resnets_0": {"conv1": (3, 3, 4, 8)}, "resnets_1": {"time_emb_proj": (4, 8)}},
            "down_blocks_1": {"attentions_0": {"proj_in": (8, 8)}},
        },
        "transformer": {"transformer_blocks_0": {"attn": {"to_q": (8, 8)}}},
        "text_encoder": {"text_model": {"encoder": {"layers": {"0": {"self_attn": {"q_proj": (8, 8)}}}}}},
        "text_encoder_2": {"text_model": {"encoder": {"layers": {"0": {"self_attn": {"q_proj": (8, 8)}}}}}},
        "text_encoder_3": {"encoder": {"block": {"0": {"layer": {"0": {"SelfAttention": {"q": (8, 8)}}}}}}},
    }
    params = jax.tree.map(lambda s: {"kernel": np.zeros(s)}, shapes, is_leaf=lambda x: isinstance(x, tuple))
    clip = "text_model_encoder_layers_0_self_attn_q_proj"
    sides = {
        "lora_unet_input_blocks_1_0_in_layers_2": ((2, 4, 3, 3), (8, 2, 1, 1)),
        "lora_unet_input_blocks_2_0_emb_layers_1": ((2, 4), (8, 2)),
        "lora_unet_input_blocks_4_1_proj_in": ((2, 8, 1, 1), (8, 2, 1, 1)),
        f"lora_te1_{clip}": ((2, 8), (8, 2)),
        f"lora_te2_{clip}": ((2, 8), (8, 2)),
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q": ((2, 8), (8, 2)),
    }
    tensors = {f"{name}.alpha": np.ones(()) for name in sides}
    third = "transformer.transformer_blocks.0.attn.to_q"  # as diffusers names those of Stable Diffusion 3
    tensors |= {f"{third}.lora_A.weight": np.ones((2, 8)), f"{third}.lora_B.weight": np.ones((8, 2))}
    tensors[f"{third}.alpha"] = np.ones(())
    tensors |= {f"{name}.lora_down.weight": np.ones(down) for name, (down, _) in sides.items()}
    tensors |= {f"{name}.lora_up.weight": np.ones(up) for name, (_, up) in sides.items()}
    safetensors.numpy.save_file(tensors, tmp_path / "xl.safetensors")
    found = lora_files.load(tmp_path / "xl.safetensors", params)
    assert {f"{name}/kernel" for name in found} == set(named_leaves(params))
    assert {pair["scale"] for pair in found.values()} == {0.5}
    lora_files.save(tmp_path / "again.safetensors", found, form="kohya")
    assert f"lora_te2_{clip}.lora_up.weight" in safetensors.numpy.load_file(tmp_path / "again.safetensors")
    assert lora_files.load(tmp_path / "again.safetensors", params).keys() == found.keys()
