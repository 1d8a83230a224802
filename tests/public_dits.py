"""A DiT as its users have it: random weights under diffusers' names, or under those of the paper's code."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy
from public_unets import weights

# DiT-XL/2's, at a ninth of the width and an eighth of the depth.
CONFIG = {
    "_class_name": "DiTTransformer2DModel",
    "num_attention_heads": 2,
    "attention_head_dim": 64,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 3,
    "sample_size": 8,
    "patch_size": 2,
    "num_embeds_ada_norm": 5,
}
WIDTH, DEPTH, CLASSES = 128, 3, 5
_BLOCK = {
    "attn1.to_q": (WIDTH, WIDTH),
    "attn1.to_k": (WIDTH, WIDTH),
    "attn1.to_v": (WIDTH, WIDTH),
    "attn1.to_out.0": (WIDTH, WIDTH),
    "ff.net.0.proj": (4 * WIDTH, WIDTH),
    "ff.net.2": (WIDTH, 4 * WIDTH),
    "norm1.linear": (6 * WIDTH, WIDTH),
}
_EMBEDDER = {"timestep_embedder.linear_1": (WIDTH, 256), "timestep_embedder.linear_2": (WIDTH, WIDTH)}
_TABLE = "class_embedder.embedding_table.weight"
_REST = {"pos_embed.proj": (WIDTH, 4, 2, 2), "proj_out_1": (2 * WIDTH, WIDTH), "proj_out_2": (32, WIDTH)}


def tensors() -> dict[str, np.ndarray]:
    """Each drawn by its name; the embedders of all blocks are the same, as they are published."""
    shapes: dict[str, tuple] = {}
    for name, shape in {
        **_REST,
        **{f"transformer_blocks.{i}.{k}": v for i in range(DEPTH) for k, v in _BLOCK.items()},
    }.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    embedder = {
        f"{name}.{kind}": of
        for name, of_name in _EMBEDDER.items()
        for kind, of in (("weight", of_name), ("bias", of_name[:1]))
    }
    embedder[_TABLE] = (CLASSES + 1, WIDTH)
    shared = {f"transformer_blocks.{i}.norm1.emb.{k}": v for k, v in weights(embedder).items() for i in range(DEPTH)}
    return weights(shapes) | shared


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents [3, 8, 8, 4], timesteps and labels, the last of which is "no class"."""
    x = np.random.RandomState(0).standard_normal((3, 8, 8, 4)).astype(np.float32)
    return x, np.array([0, 321, 999]), np.array([1, 4, CLASSES])


def save_folder(folder: Path, drawn: dict[str, np.ndarray], config: dict = CONFIG) -> Path:
    """Writes a pipeline's folder as diffusers does, without its VAE."""
    (folder / "transformer").mkdir(parents=True)
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(drawn, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    return folder


def as_paper(drawn: dict[str, np.ndarray], table: np.ndarray) -> dict[str, np.ndarray]:
    """The same tensors as the paper's code names them, with its table of positions."""
    first = "transformer_blocks.0.norm1.emb."
    names = {
        "x_embedder.proj": "pos_embed.proj",
        "t_embedder.mlp.0": f"{first}timestep_embedder.linear_1",
        "t_embedder.mlp.2": f"{first}timestep_embedder.linear_2",
        "final_layer.adaLN_modulation.1": "proj_out_1",
        "final_layer.linear": "proj_out_2",
    }
    for i in range(DEPTH):
        block = f"transformer_blocks.{i}."
        names |= {
            f"blocks.{i}.attn.proj": f"{block}attn1.to_out.0",
            f"blocks.{i}.mlp.fc1": f"{block}ff.net.0.proj",
            f"blocks.{i}.mlp.fc2": f"{block}ff.net.2",
            f"blocks.{i}.adaLN_modulation.1": f"{block}norm1.linear",
        }
    found = {f"{new}.{kind}": drawn[f"{old}.{kind}"] for new, old in names.items() for kind in ("weight", "bias")}
    for i in range(DEPTH):
        for kind in ("weight", "bias"):
            parts = [drawn[f"transformer_blocks.{i}.attn1.to_{part}.{kind}"] for part in "qkv"]
            found[f"blocks.{i}.attn.qkv.{kind}"] = np.concatenate(parts)
    return found | {"y_embedder.embedding_table.weight": drawn[first + _TABLE], "pos_embed": table[None]}
