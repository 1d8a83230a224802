"""A DiT on Fashion-MNIST, 28 x 28 grey (Peebles & Xie 2022, 2212.09748): fashion_edm.py but for the network.

DiT-S/4 of 33 M parameters; --config.method.name=flow trains it as SiT is (2401.08740), ddpm as the paper does.

Run: jaxmoust fit --config=configs/generator/fashion_dit.py --workdir=runs/fashion_dit
Settings of "small": fashion_edm.py's but for the network, 1.87 M parameters: as many steps on batches as large. A step
    of 64 images took 1.1 to 1.4 s, one of its U-Net 1.0 to 1.1 s, on 2 CPU cores, x86_64, jax 0.10.2, with five jobs on
    them.
"""

import fashion_edm
import ml_collections

WORDS = ("quick|small",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": 1.87 M parameters, for 2 CPU cores; "quick": seconds, as a smoke test."""
    config = fashion_edm.get_config(arg)
    sizes = dict(quick=dict(width=16, depth=2, num_heads=2), small=dict(width=128, depth=6, num_heads=4))
    config.model = dict(name="dit_s", patch_size=4, **sizes.get(arg, {}))
    return config
