"""A folder with a random ViT in Hugging Face's layout: a backbone as people have them, in 40 kB."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy


def write_backbone(folder: Path, width: int = 16, depth: int = 2, image_px: int = 8, patch_px: int = 4) -> Path:
    """Writes model.safetensors and config.json; the same sizes, the same weights."""
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, 1 + (image_px // patch_px) ** 2, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, patch_px, patch_px),
        "embeddings.patch_embeddings.projection.bias": (width,),
    }
    matrices = {
        **{f"attention.attention.{part}": (width, width) for part in ("query", "key", "value")},
        "attention.output.dense": (width, width),
        "intermediate.dense": (4 * width, width),
        "output.dense": (width, 4 * width),
    }
    norms = ["layernorm"]
    for i in range(depth):
        at = f"encoder.layer.{i}"
        shapes |= {f"{at}.{name}.weight": shape for name, shape in matrices.items()}
        shapes |= {f"{at}.{name}.bias": shape[:1] for name, shape in matrices.items()}
        norms += [f"{at}.layernorm_before", f"{at}.layernorm_after"]
    weights = {f"vit.{name}": rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    for norm in norms:
        weights |= {f"vit.{norm}.weight": np.ones(width, np.float32), f"vit.{norm}.bias": np.zeros(width, np.float32)}
    said = {"model_type": "vit", "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": 2}
    said |= {"image_size": image_px, "patch_size": patch_px, "intermediate_size": 4 * width, "hidden_act": "gelu"}
    said |= {"layer_norm_eps": 1e-6, "num_channels": 3, "qkv_bias": True}
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(said))
    return folder
