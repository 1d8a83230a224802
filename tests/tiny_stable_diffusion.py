"""Small pipelines of random weights in diffusers' layout, of the 1.x and of the 2.x kind."""

import json
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmoust.models.stable_diffusion import Loaded
from jaxmoust.models.stable_diffusion.pipeline import build, save
from jaxmoust.models.stable_diffusion.tokenizer import Tokenizer, open_tokenizer
from jaxmoust.models.stable_diffusion.weights import torch_name

LENGTH = 20
TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The matrices of every attention of CLIP's text encoder."""
_MERGES = ("p h", "ph o</w>", "c a", "ca t</w>", "d o", "do g</w>")

UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "norm_num_groups": 16,
}
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 16,
    "scaling_factor": 0.18215,
}
TEXT: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "hidden_act": "quick_gelu",
    "projection_dim": 32,
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
# What sets 2.x apart, and 32 groups: heads by level, linear projections, v-prediction, exact GELU in the text encoder.
SECOND = {
    "unet": {
        "attention_head_dim": [2, 4],
        "use_linear_projection": True,
        "upcast_attention": True,
        "norm_num_groups": 32,
    },
    "text_encoder": {"hidden_act": "gelu"},
    "scheduler": {"prediction_type": "v_prediction"},
}


def letters() -> list[str]:
    """The 256 characters that CLIP writes bytes as, those that can be printed as themselves, in its order."""
    return [chr(i) for i in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]


def write_tokenizer(folder: Path) -> Tokenizer:
    """Writes a tokenizer of single bytes and a few words."""
    folder.mkdir(parents=True, exist_ok=True)
    single = letters()
    words = ["".join(merge.split()) for merge in _MERGES]
    tokens = [*single, *(c + "</w>" for c in single), *words, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *_MERGES, ""]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH}))
    return open_tokenizer(folder)


# One level, and half as long to compile: for what does not depend on the network's depth.
SHALLOW = {
    "block_out_channels": [32],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
}


def configs(kind: int, vocab_size: int, shallow: bool = False) -> dict[str, dict]:
    """The JSON files of a pipeline of kind 1 or 2."""
    parts = {"unet": UNET, "vae": VAE, "text_encoder": TEXT, "scheduler": SCHEDULER, "model_index": INDEX}
    changes = SECOND if kind == 2 else {}
    made = {part: {**config, **changes.get(part, {})} for part, config in parts.items()}
    if shallow:
        made["unet"] |= SHALLOW | {"attention_head_dim": 4}
    ends = {"vocab_size": vocab_size, "bos_token_id": vocab_size - 2, "eos_token_id": vocab_size - 1}
    made["text_encoder"] |= ends | {"pad_token_id": vocab_size - 1}
    return made


def weights(shapes: Any) -> Any:
    """Random leaves, each a function of its name and shape alone, of a size that keeps activations about 1."""

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = torch_name("/".join(str(entry.key) for entry in path))
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        x = rng.standard_normal(leaf.shape).astype(np.float32)
        if path[-1].key == "scale":
            return 1 + 0.1 * x
        if path[-1].key == "kernel":
            return x / np.float32(np.sqrt(np.prod(leaf.shape[:-1])))
        return 0.1 * x

    return jax.tree_util.tree_map_with_path(draw, shapes)


def make_pipeline(folder: Path, kind: int, shallow: bool = False) -> Loaded:
    """Makes a pipeline of kind 1 or 2; its tokenizer's files go to the folder."""
    tokenizer = write_tokenizer(folder)
    pipeline = build(configs(kind, len(tokenizer), shallow), tokenizer)
    return Loaded(pipeline, weights(pipeline.parameter_shapes()))


def write_pipeline(folder: Path, kind: int, dtype: Any = None, shallow: bool = False) -> Loaded:
    """Writes a pipeline of kind 1 or 2, and returns what was written."""
    loaded = make_pipeline(folder.parent / f"{folder.name}_tokenizer", kind, shallow)
    save(loaded, folder, dtype)
    return loaded
