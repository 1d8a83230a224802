"""A pre-trained ViT whose sizes are read off its file: for features, where no configuration says what it is."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.models.classifiers.pretrained import load_pretrained, put_leaves, read_arrays
from jaxmoust.models.classifiers.vit import ViT

# Of each layout: the patch embedding's kernel, the position embeddings, the token, and how blocks are numbered.
_AUGREG = (
    "embedding/kernel",
    "Transformer/posembed_input/pos_embedding",
    "cls",
    r"Transformer/encoderblock_(\d+)/",
)
_TORCH = (
    (
        "embeddings.patch_embeddings.projection.weight",
        "embeddings.position_embeddings",
        "embeddings.cls_token",
        r"encoder\.layer\.(\d+)\.",
    ),
    ("patch_embed.proj.weight", "pos_embed", "cls_token", r"blocks\.(\d+)\."),
)
_HEAD_WIDTH = 64  # of every published size; torch's layouts do not show it


def load_vit(path: str | Path) -> tuple[ViT, Any, int]:
    """Loads a ViT: (the module, {"params": ...} with a head of zeros, the side in pixels it was trained for).

    Args: path: a file or folder of one of the layouts of `load_pretrained`. Heads are 64 wide where neither the file
        nor a config.json beside it says otherwise.
    Raises: ValueError: no such file, a pickle, another network, or leaves that do not fit.
    """
    arrays = read_arrays(Path(path))
    arrays = {name.removeprefix("vit."): array for name, array in arrays.items()}
    names = next((names for names in (_AUGREG, *_TORCH) if names[0] in arrays and names[1] in arrays), None)
    if names is None:
        raise ValueError(
            f"{path} holds no ViT of a known layout, but {', '.join(sorted(arrays)[:4])} ... Known are augreg's .npz, "
            "and Hugging Face's and timm's .safetensors."
        )
    patch, positions, token, block = names
    augreg = names is _AUGREG
    kernel = arrays[patch]
    width, patch_px = (kernel.shape[3], kernel.shape[0]) if augreg else (kernel.shape[0], kernel.shape[2])
    depth = len({found[1] for name in arrays if (found := re.match(block, name))})
    model = ViT(
        num_classes=1,
        width=width,
        depth=depth,
        num_heads=_num_heads(Path(path), arrays, width),
        patch_px=patch_px,
        pool="token" if token in arrays else "gap",
        activation="gelu_tanh" if augreg else "gelu",
    )
    side = patch_px * round(np.sqrt(arrays[positions].shape[1] - (token in arrays)))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    shapes = {"params": shapes["params"], "stats": {}}
    tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return model, {"params": put_leaves(tree, load_pretrained(path, model, shapes))["params"]}, side


def _num_heads(path: Path, arrays: dict[str, np.ndarray], width: int) -> int:
    query = arrays.get("Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel")
    if query is not None:
        return query.shape[1]
    config = path / "config.json"
    if config.is_file():
        return json.loads(config.read_text()).get("num_attention_heads", width // _HEAD_WIDTH)
    return max(1, width // _HEAD_WIDTH)
