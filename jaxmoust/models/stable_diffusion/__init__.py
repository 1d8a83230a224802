"""Stable Diffusion 1.x, 2.x, XL, 3 and 3.5, its networks our own: U-Net, MMDiT, VAE, CLIP's two towers, T5.

A folder in diffusers' layout, or a model of the hub, goes in; what comes out are pure functions of parameters, images
and latents [B, H, W, C], and one contract, `denoise(x, sigma) -> x0`, for every solver in core/diffusion/.
"""

from jaxmoust.models.stable_diffusion.pipeline import Loaded, StableDiffusion, encode_prompts, load, save
from jaxmoust.models.stable_diffusion.tokens import add_tokens, load_tokens, save_tokens

__all__ = ["Loaded", "StableDiffusion", "add_tokens", "encode_prompts", "load", "load_tokens", "save", "save_tokens"]
