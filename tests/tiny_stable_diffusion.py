"""Small pipelines of random weights in diffusers' layout: 1.x (1), 2.x (2), "xl", "sd3", and "sd35" as 3.5-medium."""

import json
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tokenizers

from jaxmoust.models.stable_diffusion import Loaded
from jaxmoust.models.stable_diffusion.pipeline import build, save
from jaxmoust.models.stable_diffusion.tokenizer import T5, Tokenizer, open_tokenizer
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


# What sets XL and 3 apart; of parts that they have besides, all.
WIDE_TEXT = {"architectures": ["CLIPTextModelWithProjection"], "hidden_act": "gelu", "projection_dim": 24}
XL: dict[str, dict[str, Any]] = {
    "unet": {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "cross_attention_dim": 64,
        "attention_head_dim": [2, 4],
        "transformer_layers_per_block": [1, 2],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 24,
    },
    "vae": {"scaling_factor": 0.13025, "force_upcast": True},
    "text_encoder_2": TEXT | WIDE_TEXT,
    "model_index": {
        "_class_name": "StableDiffusionXLPipeline",
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "image_encoder": [None, None],
        "force_zeros_for_empty_prompt": True,
    },
}
T5_LENGTH = 24
T5_VOCABULARY = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581a", -2.0), ("\u2581", -2.5), ("cat", -3.0)]
T5_VOCABULARY += [(letter, -4.0 - i / 8) for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")]
SD3: dict[str, dict[str, Any]] = {
    "transformer": {
        "_class_name": "SD3Transformer2DModel",
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 3,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "joint_attention_dim": 80,
        "caption_projection_dim": 32,
        "pooled_projection_dim": 48,
        "pos_embed_max_size": 12,
    },
    "vae": {
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
    },
    "text_encoder": WIDE_TEXT | {"hidden_act": "quick_gelu"},
    "text_encoder_2": TEXT | WIDE_TEXT,
    "text_encoder_3": {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "vocab_size": len(T5_VOCABULARY),
        "d_model": 80,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "is_encoder_decoder": False,
    },
    "scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0},
    "model_index": {
        "_class_name": "StableDiffusion3Pipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_3": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "tokenizer_3": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    },
}
KINDS = {2: SECOND, "xl": XL, "sd3": SD3, "sd35": SD3}


def t5_tokenizer(folder: Path) -> Tokenizer:
    """A tokenizer of single letters and a few words, as T5 has."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram(T5_VOCABULARY, 2))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace("\u2581", "always")
    ends = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.post_processor = ends
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return open_tokenizer(folder, T5)


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


def configs(kind: int | str, vocab_size: int, shallow: bool = False) -> dict[str, dict]:
    """The JSON files of a pipeline of a kind."""
    parts = {"unet": UNET, "vae": VAE, "text_encoder": TEXT, "scheduler": SCHEDULER, "model_index": INDEX}
    changes = KINDS.get(kind, {})
    made = {part: {**parts.get(part, {}), **changes.get(part, {})} for part in {**parts, **changes}}
    if "transformer" in made:
        del made["unet"], made["model_index"]["unet"]
        made["scheduler"] = SD3["scheduler"]
    if kind == "sd35":
        made["transformer"] |= {"qk_norm": "rms_norm", "dual_attention_layers": [0, 1]}
    if shallow and "unet" in made:
        made["unet"] |= SHALLOW | {"attention_head_dim": 4, "transformer_layers_per_block": 1}
    elif shallow:
        made["transformer"]["num_layers"] = 2
    ends = {"vocab_size": vocab_size, "bos_token_id": vocab_size - 2, "eos_token_id": vocab_size - 1}
    for part in {"text_encoder", "text_encoder_2"} & made.keys():
        made[part] |= ends | {"pad_token_id": vocab_size - 1}
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


def make_pipeline(folder: Path, kind: int | str, shallow: bool = False) -> Loaded:
    """Makes a pipeline of a kind; its tokenizers' files go to the folder."""
    tokenizer = write_tokenizer(folder)
    more = {part: tokenizer for part in KINDS.get(kind, {}) if part == "text_encoder_2"}
    if "text_encoder_3" in KINDS.get(kind, {}):
        more["text_encoder_3"] = t5_tokenizer(folder / "t5")
    read = {"text_encoder": tokenizer, **more}
    pipeline = build(configs(kind, len(tokenizer), shallow), read, text_length=T5_LENGTH)
    return Loaded(pipeline, weights(pipeline.parameter_shapes()))


def write_pipeline(folder: Path, kind: int | str, dtype: Any = None, shallow: bool = False) -> Loaded:
    """Writes a pipeline of a kind, and returns what was written."""
    loaded = make_pipeline(folder.parent / f"{folder.name}_tokenizer", kind, shallow)
    save(loaded, folder, dtype)
    return loaded


def walker(guided: Callable[..., Any]) -> Callable[..., Any]:
    """Walks Euler steps down given levels: one compiled step for trajectories of any length."""

    @jax.jit
    def step(x: Any, sigma: Any, sigma_next: Any) -> Any:
        x0 = guided(x, sigma[None])
        return x0 + (sigma_next / sigma) * (x - x0)

    def run(x: Any, sigmas: Any) -> Any:
        for sigma, sigma_next in pairwise(sigmas):
            x = step(x, sigma, sigma_next)
        return x

    return run
