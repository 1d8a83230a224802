"""A pre-trained ViT whose sizes are read off its file: for features, where no configuration says what it is."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.models.classifiers.pretrained import load_variables, num_heads_of, open_layout
from jaxmoust.models.classifiers.vit import ViT


def load_vit(path: str | Path, num_heads: int = 0) -> tuple[ViT, Any, int]:
    """Loads a ViT: (the module, {"params": ...} with a head of zeros, the side in pixels it was trained for).

    Args:
        path: a file or folder of one of the layouts of `load_pretrained`.
        num_heads: attention heads; 0: as the file, or the config.json beside it, says.
    Raises: ValueError: no such file, a pickle, another network, leaves that do not fit, or heads that nothing says.
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
    said = num_heads_of(path, width) if query is None else query.shape[1]
    if not said and not num_heads:
        raise ValueError(
            f"{path} does not say how many attention heads it has, and a width of {width} does not tell. Put the "
            "config.json of its publisher beside it, or give their number: --config.extractor.num_heads=N."
        )
    if num_heads not in (0, said or num_heads):
        raise ValueError(f"{path} has {said} attention heads, as it says; got {num_heads}.")
    model = ViT(
        num_classes=1,
        width=width,
        depth=next(i for i in itertools.count() if name_of("blocks/norm0/bias").format(i) not in arrays),
        num_heads=num_heads or said,
        patch_px=patch_px,
        pool="token" if has_token else "gap",
        activation="gelu_tanh" if augreg else "gelu",
    )
    side = patch_px * round(np.sqrt(positions.shape[1] - has_token))
    return model, {"params": load_variables(path, model, side)["params"]}, side
