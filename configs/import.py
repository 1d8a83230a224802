"""Takes a public diffusion network over as a generator: a UNet2DModel or DiT folder of diffusers, EDM or DiT tensors.

Run: jaxmoust import --config=configs/import.py --workdir=runs/public --config.path=ddpm-cifar10-32

EDM publishes pickles, which run code and are not opened here; models/unet/load.py shows the line that turns one
into the .npz that is, with how it was preconditioned. A state dict alone does not say that:
     --config.precondition=edm --config.sigma_data=0.5
DiT-XL/2 works on latents: its folder holds the VAE, and beside a file --config.vae=stabilityai/sd-vae-ft-ema names it.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: the names of the classes, by commas, in the order of the network's labels; default 0, 1, ..."""
    config = ml_collections.ConfigDict()
    config.task = "import"
    config.class_names = tuple(name for name in arg.split(",") if name)
    return config
