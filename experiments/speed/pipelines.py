"""Pipelines of Stable Diffusion without anybody's weights, for the benchmarks: small ones, and the published sizes.

Texts are encoded before what is measured, so that of XL, 3 and 3.5 each text encoder has one layer of the published
width, and T5 is left out (3 and 3.5 then read zeros in its place, of the same size).
"""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.models.stable_diffusion.pipeline import StableDiffusion, build
from jaxmoust.models.stable_diffusion.tokenizer import open_tokenizer
from jaxmoust.train.finetune import Finetune

RANK, NUM_CLASSES, LENGTH = 4, 10, 77  # of adapters; classes; tokens that each text encoder reads
TRAINED = {"full": dict(rank=0, alpha=0.0), "lora": dict(rank=RANK, alpha=float(RANK))}
SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
FLOW = dict(_class_name="FlowMatchEulerDiscreteScheduler", num_train_timesteps=1000, shift=3.0)

_ATTENTION, _PLAIN = "CrossAttn{}Block2D", "{}Block2D"
_OF_1 = dict(sample_size=64, block_out_channels=[320, 640, 1280, 1280], layers_per_block=2)
_OF_XL = dict(layers_per_block=2, use_linear_projection=True, addition_embed_type="text_time")
_OF_3 = dict(patch_size=2, in_channels=16, out_channels=16, attention_head_dim=64)
_MEDIUM = dict(sample_size=128, num_layers=24, num_attention_heads=24, joint_attention_dim=4096)
_MEDIUM |= dict(caption_projection_dim=1536, pooled_projection_dim=2048, pos_embed_max_size=192)
_LARGE = _MEDIUM | dict(num_layers=38, num_attention_heads=38, caption_projection_dim=2432, qk_norm="rms_norm")
_SMALL = dict(sample_size=16, num_layers=4, num_attention_heads=2, joint_attention_dim=128)
_SMALL |= dict(caption_projection_dim=128, pooled_projection_dim=64, pos_embed_max_size=12)
_DUAL = dict(qk_norm="rms_norm", pos_embed_max_size=384, dual_attention_layers=[*range(13)])  # what 3.5-medium adds
_VAE = dict(block_out_channels=[128, 256, 512, 512], layers_per_block=2)
_SMALL_VAE = dict(block_out_channels=[32, 64], layers_per_block=1)
_VAE_OF_3 = dict(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False)
_VAE_OF_3 |= dict(scaling_factor=1.5305, shift_factor=0.0609)


def _unet(with_attention: list[int], **sizes: Any) -> dict[str, Any]:
    """A U-Net with attention on some of its levels."""
    levels = range(len(sizes["block_out_channels"]))
    kinds = [_ATTENTION if i in with_attention else _PLAIN for i in levels]
    down, up = [kind.format("Down") for kind in kinds], [kind.format("Up") for kind in reversed(kinds)]
    return dict(down_block_types=down, up_block_types=up, **sizes)


def _tower(width: int, layers: int, heads: int, mlp: int = 0) -> dict[str, Any]:
    sizes = dict(hidden_size=width, intermediate_size=mlp or width, projection_dim=width)
    return dict(num_hidden_layers=layers, num_attention_heads=heads, **sizes)


def _of_3(transformer: dict[str, Any], vae: dict[str, Any], *towers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A pipeline of 3 or 3.5."""
    parts = {"transformer": _OF_3 | transformer, "vae": vae | _VAE_OF_3}
    return parts | dict(zip(("text_encoder", "text_encoder_2"), towers, strict=True))


_L, _BIG_G, _NARROW = _tower(768, 1, 12), _tower(1280, 1, 20), _tower(32, 1, 2)
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "unet": _unet(
            [0],
            sample_size=8,
            block_out_channels=[32, 64],
            layers_per_block=1,
            attention_head_dim=4,
            cross_attention_dim=32,
        ),
        "vae": _SMALL_VAE | dict(sample_size=16),
        "text_encoder": _tower(32, 1, 2, 64),
    },
    "tiny_xl": {
        "unet": _unet(
            [1, 2],
            sample_size=8,
            block_out_channels=[32, 64, 64],
            attention_head_dim=[2, 4, 4],
            transformer_layers_per_block=[1, 2, 4],
            cross_attention_dim=64,
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32,
            **_OF_XL,
        ),
        "vae": _SMALL_VAE | dict(sample_size=16),
        "text_encoder": _NARROW,
        "text_encoder_2": _NARROW,
    },
    "tiny_sd3": _of_3(_SMALL, _SMALL_VAE | dict(sample_size=32), _NARROW, _NARROW),
    "tiny_sd35": _of_3(
        _SMALL | _DUAL | dict(pos_embed_max_size=24, dual_attention_layers=[0, 1]),
        _SMALL_VAE | dict(sample_size=32),
        _NARROW,
        _NARROW,
    ),
}
PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "sd15": {
        "unet": _unet([0, 1, 2], attention_head_dim=8, cross_attention_dim=768, **_OF_1),
        "vae": _VAE | dict(sample_size=512),
        "text_encoder": _tower(768, 12, 12, 3072),
    },
    "sd21": {
        "unet": _unet(
            [0, 1, 2], attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024, use_linear_projection=True, **_OF_1
        ),
        "vae": _VAE | dict(sample_size=512),
        "text_encoder": _tower(1024, 23, 16, 4096),
    },
    "sdxl": {
        "unet": _unet(
            [1, 2],
            sample_size=128,
            block_out_channels=[320, 640, 1280],
            attention_head_dim=[5, 10, 20],
            transformer_layers_per_block=[1, 2, 10],
            cross_attention_dim=2048,
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
            **_OF_XL,
        ),
        "vae": _VAE | dict(sample_size=1024, scaling_factor=0.13025),
        "text_encoder": _L,
        "text_encoder_2": _BIG_G,
    },
    "sd3_medium": _of_3(_MEDIUM, _VAE | dict(sample_size=1024), _L, _BIG_G),
    "sd35_medium": _of_3(_MEDIUM | _DUAL, _VAE | dict(sample_size=1024), _L, _BIG_G),
    "sd35_large": _of_3(_LARGE, _VAE | dict(sample_size=1024), _L, _BIG_G),
}
SIZES = SMALL | PUBLISHED


def configs(size: str) -> dict[str, dict[str, Any]]:
    """The JSON files of a pipeline."""
    made = {part: dict(fields) for part, fields in SIZES[size].items()}
    depth = len(made["vae"]["block_out_channels"])
    blocks = dict(down_block_types=["DownEncoderBlock2D"] * depth, up_block_types=["UpDecoderBlock2D"] * depth)
    made["vae"] = dict(latent_channels=4) | blocks | made["vae"]
    for part in (part for part in made if part.startswith("text_encoder")):
        made[part] |= dict(vocab_size=49_408, max_position_embeddings=LENGTH)
    kind = "3" if "transformer" in made else "XL" if "text_encoder_2" in made else ""
    scheduler = FLOW if kind == "3" else SCHEDULE | {"steps_offset": 1}
    index = {
        "_class_name": f"StableDiffusion{kind}Pipeline",
        **({"text_encoder_3": [None, None]} if kind == "3" else {}),
    }
    return made | {"scheduler": scheduler, "model_index": index}


@functools.cache
def pipeline_of(size: str, dtype: str, remat: bool = False) -> StableDiffusion:
    """A pipeline without parameters, whose tokenizer knows single letters: prompts are not what is measured."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = open_tokenizer(folder)
    readers = {part: tokenizer for part in SIZES[size] if part.startswith("text_encoder")}
    return build(configs(size), readers, jnp.dtype(dtype), remat, LENGTH)


def random_params(pipeline: StableDiffusion, dtype: str) -> dict[str, Any]:
    """Random parameters of a size that keeps activations about 1."""

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 1
        values = np.random.default_rng(0).standard_normal(leaf.shape, np.float32) / np.float32(np.sqrt(fan_in))
        return (1 + 0.1 * values if path[-1].key == "scale" else values).astype(jnp.dtype(dtype))

    return jax.tree_util.tree_map_with_path(draw, pipeline.parameter_shapes())


def text_shapes(pipeline: StableDiffusion, *rows: int) -> Any:
    """What the network reads of so many texts."""
    ids = {part: jax.ShapeDtypeStruct((1, LENGTH), jnp.int32) for part in pipeline.tokenizers}
    text = jax.eval_shape(pipeline.encode_text, pipeline.parameter_shapes(), ids)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*rows, *leaf.shape[1:]), leaf.dtype), text)


def net_shapes(pipeline: StableDiffusion, px: int = 0) -> dict[str, Any]:
    """What is read of the network's parameters for images of this size, 0 that which it was trained at."""
    px = px or pipeline.image_px
    return jax.eval_shape(lambda params: pipeline.net_params(params, px), pipeline.parameter_shapes())


def training(
    size: str, rows: int, dtype: str, trained: str, remat: bool = False, px: int = 0
) -> tuple[Finetune, dict[str, Any], dict[str, jax.ShapeDtypeStruct]]:
    """The task of training on latents that were computed before, the shapes of what it uses, and of a batch."""
    pipeline, shape = pipeline_of(size, dtype, remat), jax.ShapeDtypeStruct
    px = px or pipeline.image_px
    task = Finetune(pipeline, NUM_CLASSES, (px, px, 3), px, precompute=True, caption_dropout=0.1, **TRAINED[trained])
    frozen: dict[str, Any] = {
        "latents": dict.fromkeys(("mean", "std"), shape((rows, 1, *pipeline.latent_shape(px)), jnp.float32)),
        "states": text_shapes(pipeline, 1 + NUM_CLASSES),  # of no text, then of each class's
        "of_class": shape((NUM_CLASSES, 1), jnp.int32),
        "num_prompts": shape((NUM_CLASSES,), jnp.int32),
    }
    frozen |= {part: tree for part, tree in net_shapes(pipeline, px).items() if part not in task.whole}
    return task, frozen, {name: shape((rows,), jnp.int32) for name in ("label", "index", "slot", "source")}
