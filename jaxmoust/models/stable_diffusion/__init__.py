"""Stable Diffusion 1.x and 2.x, its networks our own: U-Net, VAE, CLIP's two towers, and CLIP's tokenizer.

A folder in diffusers' layout, or a model of the hub, goes in; what comes out are pure functions of parameters, images
and latents [B, H, W, C], and one contract, `denoise(x, sigma) -> x0`, that every solver in core/diffusion/ walks.
"""

from jaxmoust.models.stable_diffusion.pipeline import Loaded, StableDiffusion, load, save, text_encoder
from jaxmoust.models.stable_diffusion.tokens import add_tokens, load_tokens, save_tokens

__all__ = ["Loaded", "StableDiffusion", "add_tokens", "load", "load_tokens", "save", "save_tokens", "text_encoder"]
