"""A pre-trained ViT whose sizes are read off its file: for features, where no configuration says what it is."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.models.classifiers.pretrained import load_variables, num_heads_of, open_layout
from jaxmoust.models.classifiers.vit import ViT

_HEAD_WIDTH = 64  # of every published size; torch's layouts do not show it


def load_vit(path: str | Path) -> tuple[ViT, Any, int]:
    """Loads a ViT: (the module, {"params": ...} with a head of zeros, the side in pixels it was trained for).

    Args: path: a file or folder of one of the layouts of `load_pretrained`. Heads are 64 wide where neither the file
        nor a config.json beside it says otherwise.
    Raises: ValueError: no such file, a pickle, another network, or leaves that do not fit.
    """
    layout, arrays = open_layout(path, ViT)

    def name_of(leaf: str) -> str:
        return layout.names(f"params/{leaf}")[0]

    if name_of("pos_embed") not in arrays:
        raise ValueError(
            f"{path} lacks {name_of('pos_embed')}: it is no ViT of {layout.family}'s layout. Fetch it again."
        )
    patch, positions, has_token = (
        arrays[name_of("patch_embed/kernel")],
        arrays[name_of("pos_embed")],
        name_of("cls") in arrays,
    )
    augreg = layout.family == "augreg"
    width, patch_px = (patch.shape[3], patch.shape[0]) if augreg else (patch.shape[0], patch.shape[2])
    query = arrays.get(name_of("blocks/qkv/kernel").format(0)) if augreg else None
    num_heads = num_heads_of(path, max(1, width // _HEAD_WIDTH)) if query is None else query.shape[1]
    model = ViT(
        num_classes=1,
        width=width,
        depth=next(i for i in itertools.count() if name_of("blocks/norm0/bias").format(i) not in arrays),
        num_heads=num_heads,
        patch_px=patch_px,
        pool="token" if has_token else "gap",
        activation="gelu_tanh" if augreg else "gelu",
    )
    side = patch_px * round(np.sqrt(positions.shape[1] - has_token))
    return model, {"params": load_variables(path, model, side)["params"]}, side
