"""Draws a synthetic set from a DDPM on latents by DDIM, 50 evaluations an image, guidance 1.5 (2212.09748, table 2).

Latents have no bounds, so that no estimate is clipped. Peebles & Xie take 250 steps of DDPM's own solver.

Run: jaxmoust sample --config=configs/sample/ddim_latents.py --workdir=runs/dit_set --config.generator=runs/dit
"""

import ddim
import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" draws a few images, as a smoke test."""
    config = ddim.get_config(arg)
    config.sample.update(guidance=1.5, clip=False)
    if arg != "quick":
        config.sample.per_device_batch = 64  # images of 256 px, which the VAE decodes at once
    return config
